"""How many programs usual ways of calling cost, beside stock Keras."""

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import pytest

names = []


def hear(event, duration, fun_name="", **_):
    if event == "/jax/core/compile/backend_compile_duration":
        names.append(fun_name)


jax.monitoring.register_event_duration_secs_listener(hear)


def data(rows):
    x = np.ones((rows, 3), "float32")
    return x, x.sum(1, keepdims=True)


def batches(rows, size):
    x, y = data(rows)
    for i in range(0, rows, size):
        yield x[i : i + size], y[i : i + size]


class Tracker(keras.callbacks.Callback):
    reads_only_logs = True

    def on_train_batch_end(self, batch, logs=None):
        self.logs = logs

    def on_test_batch_end(self, batch, logs=None):
        self.logs = logs


def fit(model, rows=96, **options):
    model.fit(*data(rows), verbose=0, **options)


def again(model):
    fit(model)
    fit(model)


def other_lengths(model):
    for rows in (96, 128, 320):
        fit(model, rows)


def left_over(model):
    """Each length leaves over another number of rows."""
    for rows in (97, 98, 99):
        fit(model, rows)


def validated(model):
    fit(model, validation_data=data(64))


def whole(model):
    validated(model)
    model.evaluate(*data(160), verbose=0)
    model.predict(data(256)[0], verbose=0)


def predicted(model):
    for rows in (64, 96, 320):
        model.predict(data(rows)[0], verbose=0)


def few_rows(model):
    for rows in (1, 2, 3):
        model.predict(data(rows)[0], verbose=0)


def generated(model):
    model.fit(batches(100, 20), steps_per_epoch=5, shuffle=False, verbose=0)


def recompiled(model):
    fit(model)
    model.compile("sgd", "mse")
    fit(model)


def tracked(model):
    fit(model, callbacks=[Tracker()], validation_data=data(64))


def tracked_later(model):
    fit(model)
    fit(model, callbacks=[Tracker()])


def programs(cls, way):
    """How many programs of steps are compiled."""
    model = cls([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    names.clear()
    way(model)
    return sum("step" in name or "jit(run)" in name for name in names)


# The table of docs/guides/speed.md: programs of stock Keras, and ours.
@pytest.mark.parametrize(
    ("way", "theirs", "ours"),
    [
        (again, 1, 1),
        (other_lengths, 1, 1),
        (left_over, 4, 3),
        (validated, 2, 2),
        (whole, 3, 3),
        (predicted, 1, 1),
        (few_rows, 3, 3),
        (generated, 1, 1),
        (recompiled, 2, 2),
        (tracked, 2, 2),
        (tracked_later, 1, 2),
    ],
)
def test_no_usual_way_compiles_more_than_it_must(way, theirs, ours):
    assert programs(kje.Sequential, way) == ours
    assert programs(keras.Sequential, way) == theirs


@pytest.mark.parametrize(
    ("way", "traced"),
    [
        (again, [32]),
        (left_over, [32, 1, 2, 3]),
        (validated, [32, 32]),
        (generated, [20]),
        (recompiled, [32, 32, 32]),  # the second builds the metrics
    ],
)
def test_the_steps_of_a_program_are_traced_once(way, traced):
    rows = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            if isinstance(x, jax.core.Tracer) and x.ndim:
                rows.append(x.shape[0])
            return x

    layers = [keras.Input((3,)), Counted(), keras.layers.Dense(1)]
    model = kje.Sequential(layers)
    model.compile("sgd", "mse")
    model.predict(np.ones((1, 3)), verbose=0)
    model.train_on_batch(np.ones((1, 3)), np.ones((1, 1)))
    rows.clear()
    way(model)
    assert rows == traced
