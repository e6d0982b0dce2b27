"""Trains until it is interrupted; `test_interrupts.py` runs it in a process.

A thread sends the signal, at moments drawn from a seed. What the process finds
wrong it prints; a process that finds nothing prints how late it was told.
"""

import os
import random
import signal
import sys
import threading
import time

os.environ["KERAS_BACKEND"] = "jax"

import keras_jax_ext as kje

import keras
import numpy as np

X = np.random.default_rng(0).normal(size=(512, 16)).astype("float32")
Y = X.sum(1, keepdims=True)


class Counting(keras.layers.Layer):
    """Adds one to a weight in each step of training."""

    def build(self, shape):
        self.steps = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x, training=False):
        if training:
            self.steps.assign_add(1)
        return x


def make():
    """A model that counts its steps, compiled."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((16,)), Counting(), keras.layers.Dense(1)]
    model = kje.Sequential(layers)
    model.compile("adam", "mse")
    return model


def batches():
    while True:
        for i in range(0, 512, 32):
            yield X[i : i + 32], Y[i : i + 32]


def train(model, source, epochs, steps=16):
    """Fit from arrays or a generator, on the same batches."""
    options = {"epochs": epochs, "shuffle": False, "verbose": 0}
    if source == "arrays":
        model.fit(X, Y, batch_size=32, **options)
    else:
        model.fit(batches(), steps_per_epoch=steps, **options)


def interrupt_after(seconds):
    """Send SIGINT later; return when, in a list."""
    sent = []

    def send():
        time.sleep(seconds)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()
    return sent


def interrupt(model, source, seconds):
    """Train for ever, until told; return how late the end was."""
    sent = interrupt_after(seconds)
    try:
        train(model, source, epochs=10**7)
    except KeyboardInterrupt:
        return time.monotonic() - sent[0]
    raise AssertionError("the training ended by itself")


def check(model, source):
    """The weights are those of a whole number of steps, and train on."""
    steps = int(model.layers[0].steps.value)
    assert int(model.optimizer.iterations.value) == steps
    reached = model.get_weights()
    again = make()
    train(again, "generator", epochs=1, steps=steps)
    for a, b in zip(reached, again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    train(model, source, epochs=1)
    assert int(model.layers[0].steps.value) == steps + 16


def main():
    """Interrupt each kind of source several times."""
    # A process started in the background ignores the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng, late = random.Random(0), []
    for source in ("arrays", "generator"):
        for seconds in [rng.uniform(0.0, 0.5) for _ in range(3)]:
            model = make()
            train(model, source, epochs=1)
            late.append(interrupt(model, source, seconds))
            check(model, source)
    print(max(late))


if __name__ == "__main__":
    sys.exit(main())
