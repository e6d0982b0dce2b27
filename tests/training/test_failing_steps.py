"""A model keeps its last good weights, whatever fails in a step."""

import keras_jax_ext as kje

import jax
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
METHODS = {
    "fit": lambda m, x, **k: m.fit(x, Y, verbose=0, batch_size=5, **k),
    "train_on_batch": lambda m, x, **k: m.train_on_batch(x, Y, **k),
    "evaluate": lambda m, x, **k: m.evaluate(x, Y, verbose=0, **k),
    "test_on_batch": lambda m, x, **k: m.test_on_batch(x, Y, **k),
    "predict": lambda m, x, **k: m.predict(x, verbose=0, **k),
    "predict_on_batch": lambda m, x, **k: m.predict_on_batch(x, **k),
}
each_method = pytest.mark.parametrize("method", METHODS)


class Fuse(keras.layers.Layer):
    """Raises when told to: while it is traced, or while it runs."""

    blown = None

    def call(self, x):
        if self.blown == "trace":
            raise RuntimeError("boom")
        if self.blown is None:
            return x
        spec = jax.ShapeDtypeStruct(x.shape, x.dtype)
        # Not differentiable: the gradient goes around it.
        return x + jax.pure_callback(self.look, spec, jax.lax.stop_gradient(x))

    def look(self, x):
        if self.blown == "run":
            raise RuntimeError("boom")
        return np.zeros_like(x)


def trained(cls=kje.Sequential, **options):
    """A model after one epoch, with a state in its optimizer."""
    fuse = Fuse(name="fuse")
    normalize = keras.layers.BatchNormalization()
    model = cls([keras.Input((3,)), fuse, normalize, keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"], **options)
    model.fit(X, Y, verbose=0, batch_size=5)
    return model, fuse


def values(model):
    return [np.array(v) for v in (*model.variables, *model.optimizer.variables)]


def assert_intact(model, before):
    """Nothing changed, and the model goes on."""
    for left, right in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(left, right)
    model.predict(X, verbose=0)
    model.fit(X, Y, verbose=0)


def retrace(model):
    """Steps are compiled: what a layer does is read when they are traced."""
    model.make_train_function(force=True)
    model.make_test_function(force=True)
    model.make_predict_function(force=True)


@each_method
@pytest.mark.parametrize("blown", ["trace", "run"])
def test_a_failing_step_changes_nothing(method, blown):
    model, fuse = trained()
    before = values(model)
    fuse.blown = blown
    retrace(model)
    with pytest.raises(Exception, match="boom"):
        METHODS[method](model, X)
    fuse.blown = None
    retrace(model)
    assert_intact(model, before)


def test_a_failing_step_of_stock_keras_loses_the_weights():
    model, fuse = trained(keras.Sequential)
    fuse.blown = "trace"
    retrace(model)
    with pytest.raises(RuntimeError, match="boom"):
        METHODS["fit"](model, X)
    with pytest.raises(TypeError, match="'NoneType' object"):
        model.get_weights()


def batches(fail_at):
    """Batches of 5 without end; the numbered one fails."""
    for number in range(99):
        if number == fail_at:
            raise OSError("disk gone")
        yield X[:5] + number, Y[:5]


@pytest.mark.parametrize("fail_at", [0, 7])
@pytest.mark.parametrize(
    ("steps_per_execution", "jit_compile"),
    [(1, "auto"), (3, "auto"), (1, False), (3, False)],
)
def test_weights_are_those_after_the_last_good_batch(
    fail_at, steps_per_execution, jit_compile
):
    options = {"shuffle": False, "verbose": 0}
    good = fail_at
    if not jit_compile:  # Keras's own loop: whole executions
        good -= fail_at % steps_per_execution
    results = []
    # The reference counts single steps.
    for steps, several in ((99, steps_per_execution), (good, 1)):
        keras.utils.set_random_seed(1)
        model, _ = trained(steps_per_execution=several, jit_compile=jit_compile)
        if steps == 99:
            with pytest.raises(OSError, match="disk gone"):
                model.fit(batches(fail_at), steps_per_epoch=99, **options)
        elif steps:
            model.fit(batches(99), steps_per_epoch=steps, **options)
        results.append(values(model))
        model.predict(X, verbose=0)
    for left, right in zip(*results, strict=True):
        # Programs of one step and of several round a unit of the last place
        # apart with JAX 0.12; a step more or less is 1e-3.
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("method", "steps_per_execution"),
    # With several, Keras's nightlies fail in the methods of one batch.
    [*((m, 1) for m in METHODS), *((m, 2) for m in METHODS if "_" not in m)],
)
def test_weights_survive_the_search_for_nans(method, steps_per_execution):
    model, _ = trained(steps_per_execution=steps_per_execution)
    before = values(model)
    bad = X.copy()
    bad[-1] = np.inf  # its normalized value is not a number
    # JAX finds the NaN, or fails to look for it where buffers are reused.
    errors = (FloatingPointError, RuntimeError)
    with jax.debug_nans(True), pytest.raises(errors, match=r"nan|deleted"):
        METHODS[method](model, bad)
    if method != "fit":  # whose first batches are good
        assert_intact(model, before)
    assert np.isfinite(np.concatenate([v.ravel() for v in values(model)])).all()


class Raise(keras.callbacks.Callback):
    """Raises after the first batch of anything."""

    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt("enough")

    on_test_batch_end = on_predict_batch_end = on_train_batch_end


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_a_callback_may_raise(method):
    model, _ = trained()
    with pytest.raises(KeyboardInterrupt, match="enough"):
        METHODS[method](model, X, callbacks=[Raise()])
    assert_intact(model, values(model))


def test_run_eagerly_keeps_them_too():
    model, fuse = trained(run_eagerly=True)
    before = values(model)
    fuse.blown = "run"
    with pytest.raises(Exception, match="boom"):
        METHODS["fit"](model, X)
    fuse.blown = None
    assert_intact(model, before)


def test_a_step_is_traced_once_and_copied_only_where_it_may_fail(monkeypatch):
    copies = []
    monkeypatch.setattr(
        kje._training.guard, "_copy", lambda s: copies.append(s) or s
    )
    model, fuse = trained()
    traces = []
    fuse.look = lambda x: np.zeros_like(x)
    call = fuse.call
    fuse.call = lambda x: traces.append(0) or call(x)
    retrace(model)
    for _ in range(3):
        model.train_on_batch(X, Y)
    assert len(traces) == 1
    assert copies == []
    fuse.blown = "never"
    retrace(model)
    for _ in range(3):
        model.train_on_batch(X, Y)
    assert len(traces) == 2
    assert len(copies) == 3
