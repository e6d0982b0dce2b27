"""A fit holds one copy of the weights and one of the data."""

import gc
import os
import threading
from pathlib import Path

import keras_jax_ext as kje
from keras_jax_ext._loop import device
from keras_jax_ext._loop.device import padded, zeros

import jax
import keras
import numpy as np
import pytest

# Shapes that no array of another test has.
ROWS, WIDTH, UNITS = 1021, 53, 47
X = np.ones((ROWS, WIDTH), "float32")
Y = np.ones((ROWS, UNITS), "float32")


class Census(keras.callbacks.Callback):
    """Counts the arrays of a shape that are alive after each epoch."""

    def __init__(self, matches):
        super().__init__()
        self.matches, self.counts = matches, []

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        alive = [a for a in jax.live_arrays() if self.matches(a.shape)]
        self.counts.append(len(alive))


def make():
    model = kje.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(UNITS)])
    model.compile("adam", "mse")
    return model


def test_fit_gives_its_buffers_away_and_holds_no_second_copy():
    model = make()
    model.fit(X, Y, verbose=0)
    variables = [*model.trainable_variables, *model.optimizer.variables]
    before = [v.value for v in variables]
    census = Census(lambda shape: shape == (WIDTH, UNITS))
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[census])
    assert all(value.is_deleted() for value in before)
    # The kernel, and Adam's two moments of it.
    assert census.counts == [3, 3]
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    gc.collect()
    assert sum(a.shape == (WIDTH, UNITS) for a in jax.live_arrays()) == 3


def test_the_data_are_on_the_device_once_and_leave_it_with_fit():
    model = make()
    census = Census(lambda s: len(s) == 2 and s[0] >= ROWS and s[1] == WIDTH)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[census])
    assert census.counts == [1, 1]
    del model
    census.on_epoch_end(2)
    assert census.counts[-1] == 0


def test_longer_arrays_are_used_by_the_device_as_they_are():
    longer = padded(X, ROWS + 3)
    np.testing.assert_array_equal(longer[:ROWS], X)
    assert not longer[ROWS:].any()
    for array in (longer, zeros((3, 5), "float16")):
        assert array.ctypes.data % 64 == 0
    cpu = jax.devices("cpu")[0]
    put = jax.device_put(longer, cpu)
    assert put.unsafe_buffer_pointer() == longer.ctypes.data


def test_what_is_behind_the_rows_of_a_block_is_not_read(monkeypatch):
    made = []

    def full_of_nan(shape, dtype):
        made.append(np.full(shape, 255, dtype))
        return made[-1]

    monkeypatch.setattr(device.np, "empty", full_of_nan)
    assert np.isnan(device.roomy(X[:2], 3)[2]).all()
    made.clear()
    model = make()
    outputs = model.predict(X, batch_size=100, verbose=0)
    np.testing.assert_allclose(outputs, model(X), rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.evaluate(X, Y, batch_size=100, verbose=0))
    assert made


def test_arrays_of_jax_are_not_copied():
    x, y = jax.numpy.asarray(X), jax.numpy.asarray(Y)
    census = Census(lambda s: len(s) == 2 and s[0] >= ROWS and s[1] == WIDTH)
    make().fit(x, y, epochs=2, verbose=0, callbacks=[census])
    assert census.counts == [1, 1]


class Device:
    """Says how much memory it has, and how much of it is used."""

    def __init__(self, **stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats


@pytest.mark.parametrize(
    ("limit", "used", "fits"),
    [(1000, 0, True), (700, 0, False), (1000, 700, False), (1000, 600, True)],
)
def test_data_take_their_share_of_what_is_free(limit, used, fits, monkeypatch):
    gpu = Device(bytes_limit=limit, bytes_in_use=used)
    monkeypatch.setattr(jax, "local_devices", lambda: [gpu])
    assert device.fits(np.zeros(100, "float32"), 0.5) is fits
    there = jax.numpy.zeros(10)
    monkeypatch.setattr(gpu, "stats", {"bytes_limit": 10})
    assert device.fits(there, 0.5)


@pytest.fixture
def fresh_limits():
    device.host_memory.cache_clear()
    yield
    device.host_memory.cache_clear()


def test_a_container_may_use_less_than_its_host(
    tmp_path, monkeypatch, fresh_limits
):
    limit, none = tmp_path / "limit", tmp_path / "none"
    limit.write_text("4096\n")
    none.write_text("max\n")
    paths = (none, tmp_path / "missing", limit)
    monkeypatch.setattr(device, "LIMITS", paths)
    assert device.host_memory() == 4096


def test_arrays_train_where_the_system_does_not_say_its_memory(
    monkeypatch, fresh_limits
):
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(device, "LIMITS", ())
    assert device.host_memory() == float("inf")
    make().fit(X, Y, verbose=0)


def held():
    """What the process holds: arrays, programs, threads, files, objects."""
    gc.collect()
    handles = Path("/proc/self/fd")
    return (
        len(jax.live_arrays()),
        len(jax.devices()[0].client.live_executables()),
        threading.active_count(),
        len(os.listdir(handles)) if handles.exists() else 0,
        len(gc.get_objects()),
    )


def test_executions_leave_nothing():
    model, counts = make(), []
    model.compile("adam", "mse", steps_per_execution=1)

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append(held())

    x, y = X[:1000], Y[:1000]
    model.fit(x, y, batch_size=1, epochs=5, verbose=0, callbacks=[Count()])
    first, last = counts[1], counts[-1]
    assert last[:4] == first[:4]
    # The History has a number more for each epoch, which is no object.
    assert last[4] - first[4] < 50


def test_models_that_are_deleted_leave_nothing():
    counts = []
    for _ in range(9):
        model = make()
        model.fit(X[:64], Y[:64], verbose=0)
        model.evaluate(X[:64], Y[:64], verbose=0)
        model.predict(X[:64], verbose=0)
        del model
        counts.append(held())
    first, last = counts[2], counts[-1]
    assert last[:4] == first[:4]
    # JAX keeps two dead references to each jitted function, stock's too.
    assert (last[4] - first[4]) / 6 < 10
