"""What gradients per example take, in time and in memory.

    python benchmarks/per_example.py

A dense network and a small convolutional one, batch 32, SGD. `fit` with the
gradient of the batch; with a gradient for each example, stacked for optax's
aggregator; with `PerExample`, which clips in two passes, over the whole batch
or 8 examples at a time. Beside them the loop by hand: `vmap(grad)`, optax's
clipping, all steps in one scan.

Rounds are interleaved: medians of wall time, in microseconds a step. Memory is
that of the temporaries of one compiled step, as XLA counts it.
"""

import argparse
import functools
import json
import os
import platform
import statistics
import time
import warnings
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import keras_jax_ext as kje
from keras_jax_ext.optimizers import PerExample

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

ROWS, BATCH, CLIP, RATE = 2048, 32, 1.0, 0.01
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense():
    """784-128-128-10."""
    hidden = [keras.layers.Dense(128, activation="relu") for _ in range(2)]
    return [keras.Input((784,)), *hidden, keras.layers.Dense(10)]


def conv():
    """Two convolutions of 14x14 images, and a dense layer."""
    return [
        keras.Input((14, 14, 1)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]


def stacked():
    with warnings.catch_warnings():  # of `seed`, which dpsgd requires
        warnings.simplefilter("ignore")
        return optax.contrib.dpsgd(RATE, CLIP, 0.0, seed=0)


OPTIMIZERS = {
    "plain": lambda: optax.sgd(RATE),
    "stacked": stacked,
    "two passes": lambda: PerExample(optax.sgd(RATE), CLIP),
    "micro-batch 8": lambda: PerExample(
        optax.sgd(RATE), CLIP, microbatch_size=8
    ),
}


def data(shape):
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, *shape)).astype("float32")
    return x, random.integers(10, size=ROWS)


def model_of(layers, optimizer):
    keras.utils.set_random_seed(0)
    model = kje.Sequential(layers())
    model.compile(optimizer, LOSS)
    return model


def fitting(layers, make):
    """A `fit` of one epoch, and the bytes of the temporaries of a step."""
    model = model_of(layers, make())
    x, y = data(model.input_shape[1:])
    model.fit(x, y, batch_size=BATCH, verbose=0)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([v.value for v in group] for group in groups)
    batch = x[:BATCH], y[:BATCH]
    step = jax.jit(model.train_step, donate_argnums=0).lower(state, batch)
    run = functools.partial(model.fit, x, y, batch_size=BATCH, verbose=0)
    return run, step.compile().memory_analysis().temp_size_in_bytes


def by_hand(layers):
    """The same epoch as a scan: stacked gradients, clipped by optax."""
    model = model_of(layers, "sgd")
    apply, variables = kje.functional(model)
    x, y = data(model.input_shape[1:])

    def loss(params, x, y):
        logits = apply({**variables, "params": params}, x[None])
        return optax.softmax_cross_entropy_with_integer_labels(logits[0], y)

    def step(params, batch):
        each = jax.vmap(jax.grad(loss), (None, 0, 0))(params, *batch)
        leaves, structure = jax.tree.flatten(each)
        sums, _ = optax.per_example_global_norm_clip(leaves, CLIP)
        sums = structure.unflatten(sums)
        after = jax.tree.map(lambda p, g: p - RATE * g / BATCH, params, sums)
        return after, ()

    @jax.jit
    def epoch(params, rows):
        batches = rows.reshape(-1, BATCH)
        after, _ = jax.lax.scan(
            lambda p, rows: step(p, (x_on[rows], y_on[rows])), params, batches
        )
        return after

    x_on, y_on = jnp.asarray(x), jnp.asarray(y)
    batch = x_on[:BATCH], y_on[:BATCH]
    params = variables["params"]
    compiled = jax.jit(step, donate_argnums=0).lower(params, batch).compile()

    def run():
        order = np.random.default_rng(0).permutation(ROWS)
        jax.block_until_ready(epoch(params, order))

    return run, compiled.memory_analysis().temp_size_in_bytes


def measured(layers, rounds):
    """Microseconds a step, and megabytes, by the name of each way."""
    ways = {name: fitting(layers, make) for name, make in OPTIMIZERS.items()}
    ways["by hand"] = by_hand(layers)
    times = {name: [] for name in ways}
    for run, _ in ways.values():
        run()  # compiles, and learns the pace
        run()
    for _ in range(rounds):
        for name, (run, _) in ways.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    steps = ROWS // BATCH
    return {
        name: {
            "microseconds": 1e6 * statistics.median(times[name]) / steps,
            "megabytes": size / 2**20,
        }
        for name, (_, size) in ways.items()
    }


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    options = parser.parse_args(argv)
    versions = (
        f"Python {platform.python_version()}, Keras {keras.__version__}, "
        f"JAX {jax.__version__}"
    )
    table = {}
    for layers in (dense, conv):
        table[layers.__name__] = rows = measured(layers, options.rounds)
        print(f"\n{layers.__doc__} {versions}")
        for name, row in rows.items():
            ratio = row["microseconds"] / rows["plain"]["microseconds"]
            print(
                f"{name:13} {row['microseconds']:8.1f} us a step, "
                f"{ratio:5.2f} of plain, {row['megabytes']:6.1f} MB"
            )
    if options.json:
        found = {"versions": versions, "cores": os.cpu_count(), "ways": table}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
