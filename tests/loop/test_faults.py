"""Whatever fails inside fit, the weights are the last good ones."""

import keras_jax_ext as kje
from keras_jax_ext._loop.program import Program
from keras_jax_ext._xla.faults import LOST

import jax
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X.sum(1, keepdims=True)


class Failing(kje.Model):
    """A model whose step fails on demand, when traced or when run."""

    failure = None

    def train_step(self, state, data):
        if self.failure == "trace":
            raise ArithmeticError("while tracing")
        if self.failure == "run":
            jax.debug.callback(self.check, data[0])
        return super().train_step(state, data)

    def check(self, x):
        if np.any(np.asarray(x) > 100):
            raise ArithmeticError("while running")


def make(failure=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = Failing(inputs, keras.layers.Dense(1)(inputs))
    model.failure = failure
    model.compile("adam", "mse", **options)
    return model


def fit(model, x=X, **options):
    model.fit(x, Y, verbose=0, shuffle=False, **options)


@pytest.mark.parametrize("eager", [False, True], ids=["fused", "eager"])
@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_a_step_that_cannot_be_traced_leaves_the_model_whole(method, eager):
    model = make("trace", run_eagerly=eager, jit_compile=not eager)
    before = model.get_weights()
    with pytest.raises(ArithmeticError, match="while tracing"):
        getattr(model, method)(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model.failure = None
    model.compile("adam", "mse")
    fit(model)
    assert np.any(model.get_weights()[0] != before[0])


class Break(keras.callbacks.Callback):
    """Raises at the end of an epoch, or of a batch."""

    def __init__(self, error, *, step=None):
        super().__init__()
        self.error, self.step = error, step
        self.kept = None

    def on_epoch_end(self, epoch, logs=None):
        if self.step is None:
            self.strike()

    def strike(self):
        self.kept = self.model.get_weights()
        raise self.error


class BreakStep(Break):
    """Raises at the end of a step."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.step:
            self.strike()


@pytest.mark.parametrize("error", [OSError("stop"), KeyboardInterrupt("stop")])
@pytest.mark.parametrize(
    "callback", [Break, lambda e: BreakStep(e, step=1)], ids=["epoch", "step"]
)
def test_a_callback_that_raises_leaves_the_last_weights(callback, error):
    model = make()
    callback = callback(error)
    with pytest.raises(type(error), match="stop"):
        fit(model, callbacks=[callback], epochs=2, batch_size=16)
    for a, b in zip(model.get_weights(), callback.kept, strict=True):
        np.testing.assert_array_equal(a, b)
    fit(model)
    assert not np.array_equal(model.get_weights()[0], callback.kept[0])


def test_a_step_that_fails_while_running_leaves_the_last_good_weights():
    model = make("run")
    before = model.get_weights()
    with pytest.raises(Exception, match="while running"):
        fit(model, x=X * 1000, batch_size=16)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    fit(model, batch_size=16)


def test_a_failing_evaluate_leaves_the_model_whole():
    model = make()
    with pytest.raises(ValueError, match=r"shape|incompatible"):
        model.evaluate(X[:, :2], Y, verbose=0)
    assert np.isfinite(model.get_weights()[0]).all()
    fit(model)


def lose_after(steps, monkeypatch):
    """Let programs take the state and fail, as a device does."""
    call, calls = Program.__call__, []

    def failing(self, state, span, *kept):
        result = call(self, state, span, *kept)
        calls.append(1)
        if len(calls) > steps:
            raise jax.errors.JaxRuntimeError("INTERNAL: the device failed")
        return result

    monkeypatch.setattr(Program, "__call__", failing)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("callbacks", [[], [Break(OSError("x"), step=99)]])
def test_weights_that_the_device_took_are_said_to_be_lost(
    steps, callbacks, monkeypatch
):
    model = make()
    lose_after(steps, monkeypatch)
    with pytest.raises(jax.errors.JaxRuntimeError, match="device") as caught:
        fit(model, batch_size=16, epochs=9, callbacks=callbacks)
    assert caught.value.__notes__.count(LOST) == 1


def test_an_error_that_loses_nothing_says_nothing_of_it():
    model = make("trace")
    with pytest.raises(ArithmeticError, match="tracing") as caught:
        fit(model)
    assert LOST not in getattr(caught.value, "__notes__", ())


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_jax_without_jit_runs_step_by_step_as_stock(method):
    results = []
    for cls in (keras.Sequential, kje.Sequential):
        keras.utils.set_random_seed(0)
        model = cls([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        data = (X,) if method == "predict" else (X, Y)
        with jax.disable_jit():
            result = getattr(model, method)(*data, verbose=0)
        results.append(getattr(result, "history", {"": result}))
    for name, values in results[0].items():
        np.testing.assert_allclose(results[1][name], values, rtol=1e-5)


class Silent(kje.Model):
    """A step that logs nothing."""

    def train_step(self, state, data):
        return {}, super().train_step(state, data)[1]


def test_a_step_without_logs_is_waited_for(monkeypatch):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = Silent(inputs, keras.layers.Dense(1)(inputs))
    model.compile("adam", "mse")
    call, wait = Program.__call__, jax.block_until_ready
    states, awaited = [], []

    def noting(self, state, span, *kept):
        # Each state has been waited for when the next step begins.
        assert sum(awaited) == len(states)
        result = call(self, state, span, *kept)
        states.append(result[2])
        return result

    def waiting(arrays):
        awaited.extend(arrays is state for state in states[-1:])
        return wait(arrays)

    monkeypatch.setattr(Program, "__call__", noting)
    monkeypatch.setattr(jax, "block_until_ready", waiting)
    model.fit(X, Y, batch_size=16, steps_per_epoch=4, epochs=1, verbose=0)
    assert sum(awaited) == len(states) > 0
