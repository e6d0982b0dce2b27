"""Weights to evaluate with, of `schedule_free` and `lookahead`."""

import logging
import threading

import keras_jax_ext as kje
from keras_jax_ext._loop import modes, watching

import jax
import keras
import numpy as np
import optax
import pytest

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def model_of(transformation):
    keras.utils.set_random_seed(0)
    model = kje.Sequential([keras.layers.Dense(1, name="out")])
    model.build((None, 3))
    model.compile(transformation, "mse")
    return model


def mse(weights):
    kernel, bias = weights
    return float(np.mean((X @ kernel + bias - Y) ** 2))


MAKE = {
    "schedule_free": lambda: optax.contrib.schedule_free_sgd(0.1),
    "in_multi_steps": lambda: optax.MultiSteps(
        optax.contrib.schedule_free_sgd(0.1), 2
    ),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 4, 0.5),
}


def expected(name, model):
    """Evaluation weights as optax says, from a loop by hand."""
    params = dict(enumerate(model_of(optax.sgd(0.1)).get_weights()))
    transformation = MAKE[name]()
    pair = name == "lookahead"
    if pair:
        params = optax.LookaheadParams.init_synced(params)
    state = transformation.init(params)

    def loss(p):
        return ((X @ p[0] + p[1] - Y) ** 2).mean()

    for _ in range(5):
        grads = jax.grad(loss)(params.fast if pair else params)
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    if pair:
        return params.fast, params.slow
    node = state if name == "schedule_free" else state.inner_opt_state
    return params, optax.contrib.schedule_free_eval_params(node, params)


@pytest.mark.parametrize("name", MAKE)
def test_evaluation_uses_the_weights_that_optax_names(name):
    model = model_of(MAKE[name]())
    history = model.fit(
        X, Y, batch_size=24, epochs=5, verbose=0, validation_data=(X, Y)
    ).history
    trained = model.get_weights()
    fast, averaged = expected(name, model)
    np.testing.assert_allclose(trained[0], fast[0], rtol=1e-5)
    wanted = mse([averaged[0], averaged[1]])
    assert not np.isclose(wanted, mse(trained), rtol=1e-3)

    assert model.evaluate(X, Y, verbose=0) == pytest.approx(wanted, rel=1e-4)
    assert history["val_loss"][-1] == pytest.approx(wanted, rel=1e-4)
    assert model.test_on_batch(X, Y) == pytest.approx(wanted, rel=1e-4)
    by_average = X @ averaged[0] + averaged[1]
    np.testing.assert_allclose(
        model.predict(X, verbose=0), by_average, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        model.predict_on_batch(X), by_average, rtol=1e-4, atol=1e-5
    )
    for before, after in zip(trained, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_validation_does_not_change_the_training():
    def run(**validation):
        model = model_of(optax.contrib.schedule_free_adamw(0.1))
        model.fit(X, Y, epochs=3, verbose=0, **validation)
        return model.get_weights()

    for a, b in zip(run(), run(validation_data=(X, Y)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_for_inference_holds_the_averaged_weights(tmp_path):
    model = model_of(MAKE["schedule_free"]())
    model.fit(X, Y, epochs=2, verbose=0)
    trained = model.get_weights()[0]
    with kje.optimizers.evaluation_weights(model):
        model.save_weights(tmp_path / "a.weights.h5")
        loss = model.evaluate(X, Y, verbose=0)  # not swapped twice
    np.testing.assert_array_equal(model.get_weights()[0], trained)
    model.load_weights(tmp_path / "a.weights.h5")
    assert mse(model.get_weights()) == pytest.approx(loss, rel=1e-5)


def test_own_weights_come_back_after_a_failure():
    model = model_of(MAKE["lookahead"]())
    model.fit(X, Y, epochs=3, verbose=0)
    trained = model.get_weights()[0]
    with pytest.raises(ValueError, match="stop"):
        with kje.optimizers.evaluation_weights(model):
            raise ValueError("stop")
    np.testing.assert_array_equal(model.get_weights()[0], trained)


def saving(path, **arguments):
    """A checkpoint in the weights to evaluate with."""
    return kje.callbacks.EvaluationWeights(
        keras.callbacks.ModelCheckpoint(
            path, monitor="loss", save_weights_only=True, **arguments
        )
    )


@pytest.mark.parametrize("freq", ["epoch", 2])
@pytest.mark.parametrize("name", ["schedule_free", "lookahead"])
def test_a_checkpoint_holds_the_weights_of_evaluation(name, freq, tmp_path):
    path = tmp_path / "a.weights.h5"

    def run(callbacks):
        model = model_of(MAKE[name]())
        history = model.fit(
            X,
            Y,
            batch_size=12,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=(X, Y),
            callbacks=callbacks,
        )
        return model, history.history["val_loss"][-1]

    plain, _ = run([])
    model, loss = run([saving(path, save_freq=freq)])
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    other.load_weights(path)
    assert mse(other.get_weights()) == pytest.approx(loss, rel=1e-4)
    assert mse(model.get_weights()) != pytest.approx(loss, rel=1e-3)


def test_a_checkpoint_that_fails_leaves_the_trained_weights(tmp_path):
    class Failing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.get_weights())
            raise OSError("disk full")

    seen: list = []
    plain = model_of(MAKE["lookahead"]())
    plain.fit(X, Y, verbose=0)
    model = model_of(MAKE["lookahead"]())
    with pytest.raises(OSError, match="disk full"):
        model.fit(
            X,
            Y,
            epochs=9,
            verbose=0,
            callbacks=[kje.callbacks.EvaluationWeights(Failing())],
        )
    assert not np.array_equal(seen[0][0], model.get_weights()[0])
    np.testing.assert_array_equal(
        plain.get_weights()[0], model.get_weights()[0]
    )


def test_a_callback_that_sets_weights_is_refused():
    class Setting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.set_weights([w + 1 for w in self.model.get_weights()])

    model = model_of(MAKE["schedule_free"]())
    with pytest.raises(RuntimeError, match=r"Received: callback=.*Setting"):
        model.fit(
            X,
            Y,
            verbose=0,
            callbacks=[kje.callbacks.EvaluationWeights(Setting())],
        )
    with pytest.raises(TypeError, match=r"takes a callback. Received"):
        kje.callbacks.EvaluationWeights("best.keras")


def test_only_the_hooks_that_the_callback_uses_are_there():
    def overrides(callback, name):
        method = getattr(callback, name)
        base = getattr(keras.callbacks.Callback, name)
        return getattr(method, "__func__", None) is not base

    assert not watching.watches_batches(saving("a.weights.h5"), modes.TRAIN)
    assert watching.watches_batches(
        saving("a.weights.h5", save_freq=2), modes.TRAIN
    )
    stop = keras.callbacks.EarlyStopping()
    around = kje.callbacks.EvaluationWeights(stop)
    assert overrides(around, "on_epoch_end")
    assert not overrides(around, "on_train_batch_end")
    called = []
    lambdas = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: called.append(batch)
    )
    model = model_of(optax.sgd(0.1))
    model.fit(
        X,
        Y,
        batch_size=12,
        verbose=0,
        callbacks=[kje.callbacks.EvaluationWeights(lambdas)],
    )
    assert called == [0, 1]


def test_only_the_warning_of_our_own_lookahead_is_silent(caplog):
    warning = "`params` has no attribute `fast`, says "
    logger = logging.getLogger("absl")

    def init(params):
        logger.warning(warning + "this thread")
        other = threading.Thread(
            target=logger.warning, args=[warning + "another thread"]
        )
        other.start()
        other.join()
        return ()

    logs = optax.GradientTransformation(init, lambda g, s, p=None: (g, s))
    with caplog.at_level(logging.WARNING, "absl"):
        logger.addHandler(caplog.handler)
        try:
            for each in (optax.lookahead(optax.sgd(0.1), 4, 0.5), logs):
                optimizer = kje.optimizers.OptaxOptimizer(each)
                optimizer.build([keras.Variable([1.0])])
        finally:
            logger.removeHandler(caplog.handler)
    texts = {record.getMessage() for record in caplog.records}
    assert texts == {warning + "another thread"}
