"""What whole-output losses cost a training step, beside Keras's own.

    python benchmarks/losses.py

Each case trains the same model in stock Keras and here. Rounds are interleaved
and reported as the ratio of medians; the step is Keras's own train function,
guard and metrics included.
"""

import argparse
import itertools
import os
import platform
import statistics
import time

os.environ["KERAS_BACKEND"] = "jax"

import keras_jax_ext as kje
from keras_jax_ext.losses import on

import jax
import keras
import numpy as np
from keras import ops

STEPS = 100
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 16)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
WEIGHTS = RANDOM.uniform(size=64).astype("float32")


def heads(cls):
    """Two outputs in a dict, over a shared layer."""
    inputs = keras.Input((16,))
    hidden = keras.layers.Dense(64, activation="relu")(inputs)
    dense = keras.layers.Dense
    return cls(inputs, {n: dense(1, name=n)(hidden) for n in ("a", "b")})


def autoencoder(cls):
    """Sixteen numbers through eight and back."""
    inputs = keras.Input((16,))
    code = keras.layers.Dense(8, activation="relu")(inputs)
    return cls(inputs, keras.layers.Dense(16)(code))


def joint(y_true, y_pred, training):
    """Both heads in one function, with their weights."""
    a, b = (y_true[name] - y_pred[name] for name in ("a", "b"))
    return 10.0 * ops.mean(a**2, axis=-1) + ops.mean(ops.abs(b), axis=-1)


def reconstruction(x, y_pred):
    """No labels."""
    return ops.mean((y_pred - x) ** 2, axis=-1)


PAIR = {"loss": {"a": "mse", "b": "mae"}, "loss_weights": {"a": 10.0, "b": 1.0}}
PARTS = {"loss": [on("mse", "a", weight=10.0), on("mae", "b")]}
BOTH = {"a": Y, "b": -Y}
# What makes the model, then specs and labels of stock Keras, and ours.
CASES = {
    "stock specs, two heads": (heads, PAIR, BOTH, PAIR, BOTH),
    "a loss on each head": (heads, PAIR, BOTH, PARTS, BOTH),
    "one loss over both heads": (heads, PAIR, BOTH, {"loss": joint}, BOTH),
    "autoencoder": (
        autoencoder,
        {"loss": "mse"},
        X,
        {"loss": reconstruction},
        None,
    ),
}


def step_seconds(model, specs, labels):
    """A measure: seconds a step, over `STEPS` of them."""
    model.compile("adam", **specs)
    model.train_on_batch(X, labels, WEIGHTS)
    batch = jax.device_put((X, labels, WEIGHTS))
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )

    def measure():
        # Copies: the step gives the buffers away.
        state = tuple([v.value.copy() for v in group] for group in groups)
        iterator = itertools.repeat(batch)
        start = time.perf_counter()
        for _ in range(STEPS):
            _, state = model.train_function(state, iterator)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / STEPS

    measure()
    return measure


def compare(case, rounds):
    """Interleave rounds of both; print medians and their ratio."""
    make, stock, stock_labels, ours, labels = CASES[case]
    measures = {
        "stock": step_seconds(make(keras.Model), stock, stock_labels),
        "ours": step_seconds(make(kje.Model), ours, labels),
    }
    seconds = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            seconds[name].append(measure())
    base, mine = (statistics.median(s) for s in seconds.values())
    print(
        f"{case}: ours {1e6 * mine:.1f} us, stock {1e6 * base:.1f} us, "
        f"ratio {mine / base:.3f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=45)
    rounds = parser.parse_args().rounds
    print(
        f"Python {platform.python_version()}, keras {keras.__version__}, "
        f"jax {jax.__version__}, {os.cpu_count()} cores"
    )
    for case in CASES:
        compare(case, rounds)


if __name__ == "__main__":
    main()
