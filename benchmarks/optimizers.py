"""Step and build time of optax in Keras, beside Keras's Adam and a hand loop.

Rounds are interleaved, and the median is printed with the ratio to the best
but `optax.flatten`, which trades many small arrays for a large one.

Run: python benchmarks/optimizers.py
"""

# First: it selects the JAX backend of Keras.
from keras_jax_ext.optimizers import OptaxOptimizer

# isort: split
import argparse
import functools
import random
import statistics
import time

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax


def variables(count):
    return [
        keras.Variable(np.ones((32, 32), "float32"), name=f"w_{i}")
        for i in range(count)
    ]


def keras_step(make, count):
    """A compiled step of a Keras optimizer, its state carried as in `fit`.

    JAX gives a donated buffer to the first output of its shape: weights and
    state must come out in the order in which they go in, or all are copied.
    """
    optimizer, weights = make(), variables(count)
    optimizer.build(weights)

    @functools.partial(jax.jit, donate_argnums=(0,))
    def step(carry, grads):
        return optimizer.stateless_apply(carry[1], grads, carry[0])

    state = [v.value for v in optimizer.variables]
    return step, ([v.value for v in weights], state)


def hand_step(transformation, count):
    params = [jnp.ones((32, 32)) for _ in range(count)]

    @functools.partial(jax.jit, donate_argnums=(0,))
    def step(carry, grads):
        updates, state = transformation.update(grads, carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    return step, (params, transformation.init(params))


def runners(count):
    adam = optax.adam(1e-3)
    return {
        "optax by hand": hand_step(adam, count),
        "kje + optax.adam": keras_step(lambda: OptaxOptimizer(adam), count),
        "kje + flatten(adam)": keras_step(
            lambda: OptaxOptimizer(optax.flatten(adam)), count
        ),
        "keras Adam": keras_step(keras.optimizers.Adam, count),
    }


def table(title, times):
    # `flatten` is another algorithm, shown and not compared with.
    best = min(v for n, v in times.items() if "flatten" not in n)
    print(f"\n{title}")
    for name, value in times.items():
        print(f"  {name:22} {value * 1e6:10.1f} us  {value / best:5.2f}")


def steps(count, rounds, repeats):
    grads = [jnp.full((32, 32), 0.1) for _ in range(count)]
    work = runners(count)
    times: dict = {name: [] for name in work}
    shuffle, names = random.Random(0).shuffle, list(work)
    for _ in range(rounds):
        # In another order and in other memory each time: where buffers lie
        # makes one hand loop a tenth slower than an equal one.
        shuffle(names)
        for name in names:
            step, start_carry = work[name]
            carry = step(jax.tree.map(jnp.copy, start_carry), grads)
            jax.block_until_ready(carry)
            start = time.perf_counter()
            for _ in range(repeats):
                carry = step(carry, grads)
            jax.block_until_ready(carry)
            times[name].append((time.perf_counter() - start) / repeats)
    medians = {n: statistics.median(t) for n, t in times.items()}
    table(f"one step, {count} tensors of 32 x 32", medians)


def builds(count, rounds):
    makers = {
        "kje + optax.adam": lambda: OptaxOptimizer(optax.adam(1e-3)),
        "kje, rate in state": lambda: OptaxOptimizer(
            optax.adam, learning_rate=1e-3
        ),
        "keras Adam": keras.optimizers.Adam,
    }
    times: dict = {name: [] for name in makers}
    for _ in range(rounds + 1):
        for name, make in makers.items():
            optimizer, weights = make(), variables(count)
            start = time.perf_counter()
            optimizer.build(weights)
            times[name].append(time.perf_counter() - start)
    # Not the first round, which compiles.
    medians = {n: statistics.median(t[1:]) for n, t in times.items()}
    table(f"build, {count} tensors", medians)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    steps(6, arguments.rounds, 200)
    steps(200, arguments.rounds, 20)
    builds(200, arguments.rounds)


if __name__ == "__main__":
    main()
