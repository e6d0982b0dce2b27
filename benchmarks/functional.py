"""What a call of `kje.functional`'s function costs, beside one by hand.

    python benchmarks/functional.py

The network 8-32-1 for 32 rows, compiled: outputs, and the gradient of a loss.
The function by hand takes its weights as a flat tuple; the other one as the
nested dict that JAX takes apart at each call. Rounds are interleaved, medians
in microseconds; tracing is timed once each, in milliseconds.
"""

import argparse
import statistics
import time

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np

CALLS = 2000


def contenders():
    """Pairs of a compiled function and its arguments, by name."""
    model = kje.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(32, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    apply, variables = kje.functional(model)
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    weights = tuple(variable.value for variable in model.variables)

    def by_hand(weights, x):
        first, b, last, c = weights
        return jnp.tanh(x @ first + b) @ last + c

    def gradient(function):
        return jax.grad(lambda weights, x: jnp.mean(function(weights, x) ** 2))

    return {
        "outputs": (
            (lambda: jax.jit(lambda *a: apply(*a)), (variables, x)),
            (lambda: jax.jit(lambda *a: by_hand(*a)), (weights, x)),
        ),
        "gradient": (
            (lambda: jax.jit(gradient(apply)), (variables, x)),
            (lambda: jax.jit(gradient(by_hand)), (weights, x)),
        ),
    }


def seconds(function, arguments):
    """The time of one of many calls."""
    started = time.perf_counter()
    for _ in range(CALLS):
        result = function(*arguments)
    jax.block_until_ready(result)
    return (time.perf_counter() - started) / CALLS


def traced(make, arguments):
    """The time to trace and lower."""
    started = time.perf_counter()
    make().lower(*arguments)
    return time.perf_counter() - started


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args(argv).rounds
    for name, pair in contenders().items():
        functions = [make() for make, _ in pair]
        for function, (_, arguments) in zip(functions, pair, strict=True):
            jax.block_until_ready(function(*arguments))
        times = [[], []]
        for _ in range(rounds):
            for each, function, (_, given) in zip(
                times, functions, pair, strict=True
            ):
                each.append(seconds(function, given))
        ours, hand = (1e6 * statistics.median(each) for each in times)
        trace = [1e3 * traced(*each) for each in pair]
        print(
            f"{name:9} ours {ours:6.1f} us, by hand {hand:6.1f} us, ratio "
            f"{ours / hand:.3f}; traced in {trace[0]:.1f} and {trace[1]:.1f} ms"
        )


if __name__ == "__main__":
    main()
