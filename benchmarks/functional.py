"""What a call of `kje.functional`'s function costs, beside one by hand.

    python benchmarks/functional.py

The network 8-32-1 for 32 rows, compiled: outputs, and the gradient of a loss.
The function by hand takes its weights as a flat tuple, and once more as the
nested dict that ours takes, which JAX takes apart at each call. Rounds are
interleaved, medians in microseconds; tracing is timed once each, in
milliseconds.
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
    """By what is computed and by name: a function to compile, its arguments."""
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

    def forward(weights, x):
        first, b, last, c = weights
        return jnp.tanh(x @ first + b) @ last + c

    def nested(variables, x):
        first, last = (variables["params"][name] for name in names)
        kernels = first["kernel"], first["bias"], last["kernel"], last["bias"]
        return forward(kernels, x)

    names = [layer.name for layer in model.layers]
    each = {
        "ours": (apply, variables),
        "by hand": (forward, weights),
        "by hand, dict": (nested, variables),
    }

    def gradient(function):
        return jax.grad(lambda weights, x: jnp.mean(function(weights, x) ** 2))

    def compiled(function):
        # A new function: JAX caches by equality.
        return lambda: jax.jit(lambda *args: function(*args))

    return {
        what: {
            name: (compiled(change(function)), (weights, x))
            for name, (function, weights) in each.items()
        }
        for what, change in {
            "outputs": lambda f: f,
            "gradient": gradient,
        }.items()
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
    for what, each in contenders().items():
        functions = {name: make() for name, (make, _) in each.items()}
        times = {name: [] for name in each}
        for i in range(rounds + 1):
            for name, function in functions.items():
                taken = seconds(function, each[name][1])
                if i:  # the first round compiles
                    times[name].append(taken)
        ours = statistics.median(times["ours"])
        for name, values in times.items():
            median = statistics.median(values)
            trace = 1e3 * traced(*each[name])
            print(
                f"{what:9} {name:14} {1e6 * median:6.1f} us, ours / it "
                f"{ours / median:.3f}; traced in {trace:.1f} ms"
            )


if __name__ == "__main__":
    main()
