"""Fit, evaluate and predict give what stock Keras gives, in fewer programs."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest


class Fused(kje.Model):
    """A functional model with the fused loop."""


RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
LABELS = (Y > 0).astype("float32")


def make(model_class, **options):
    """The same small model, of a class, with the same weights."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(8, activation="relu")(inputs)
    h = keras.layers.Dropout(0.2)(h)
    h = keras.layers.BatchNormalization()(h)
    model = model_class(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def assert_same(ours, stock):
    for a, b in zip(ours, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def fit(model, x=X, y=Y, **options):
    history = model.fit(x, y, **{"verbose": 0, "epochs": 2, **options})
    return history.history, model.get_weights()


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"shuffle": "batch"},
        {"validation_split": 0.2, "validation_freq": 2},
        {"validation_data": (X[:40], Y[:40]), "batch_size": 50},
        {"steps_per_epoch": 3, "epochs": 3},
        {"sample_weight": np.arange(150) / 150, "initial_epoch": 1},
        {"y": LABELS, "class_weight": {0: 1.0, 1: 3.0}},
    ],
    ids=lambda options: "-".join(options),
)
def test_fit_gives_the_weights_and_history_of_stock(options):
    stock = fit(make(keras.Model), **options)
    ours = fit(make(Fused), **options)
    assert list(ours[0]) == list(stock[0])
    assert_same(ours[0].values(), stock[0].values())
    assert_same(ours[1], stock[1])


def test_an_integer_of_steps_per_execution_keeps_keras_calls():
    stock = Recorder()
    fit(make(keras.Model, steps_per_execution=3), callbacks=[stock])
    ours = Recorder()
    fit(make(Fused, steps_per_execution=3), callbacks=[ours])
    assert [c[:2] for c in ours.calls] == [c[:2] for c in stock.calls]
    assert ours.calls[1][0] == "end"
    assert_same(
        [list(c[2].values()) for c in ours.calls if c[0] == "end"],
        [list(c[2].values()) for c in stock.calls if c[0] == "end"],
    )


class Recorder(keras.callbacks.Callback):
    """Notes each batch hook, its step and its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_batch_begin(self, batch, logs=None):
        self.calls.append(("begin", batch, dict(logs)))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("end", batch, dict(logs)))


def test_a_batch_callback_is_called_after_each_step():
    recorder = Recorder()
    fit(make(Fused), epochs=1, callbacks=[recorder])
    ends = [step for name, step, _ in recorder.calls if name == "end"]
    assert ends == [0, 1, 2, 3, 4]


class StopAndZero(keras.callbacks.Callback):
    """Writes the last bias at step 2 and stops after step 3."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.model.layers[-1].bias.assign([5.0])
        self.model.stop_training = batch == 3


def test_a_callback_writes_weights_and_stops_in_the_middle():
    stock = fit(make(keras.Model), callbacks=[StopAndZero()])
    ours = fit(make(Fused), callbacks=[StopAndZero()])
    assert_same(ours[1], stock[1])
    assert ours[1][-1] > 4


def test_evaluate_and_predict_give_what_stock_gives():
    stock, ours = make(keras.Model), make(Fused)
    kwargs = {"verbose": 0, "batch_size": 16}
    assert_same(ours.evaluate(X, Y, **kwargs), stock.evaluate(X, Y, **kwargs))
    predicted = ours.predict(X, **kwargs)
    assert predicted.shape == (150, 1)
    np.testing.assert_allclose(
        predicted, stock.predict(X, **kwargs), rtol=1e-5, atol=1e-6
    )


def test_predict_keeps_the_order_over_many_executions():
    model = make(Fused)
    x = np.repeat(X, 2, axis=0)
    predicted = model.predict(x, batch_size=1, verbose=0)
    np.testing.assert_allclose(
        predicted, model(x, training=False), rtol=1e-5, atol=1e-6
    )


def test_a_step_is_traced_once_for_a_batch_size_and_not_again():
    traces = []

    class Counting(kje.Model):
        def train_step(self, state, data):
            traces.append(data[0].shape)
            return super().train_step(state, data)

    model = make(Counting)
    fit(model, epochs=3)
    fit(model, epochs=2)
    fit(model, x=X[:64], y=Y[:64])
    assert sorted(traces) == [(22, 4), (32, 4)]


def test_a_generator_trains_as_in_stock():
    def batches():
        while True:
            yield X[:32], Y[:32]

    options = {"verbose": 0, "epochs": 2, "steps_per_epoch": 3}
    options["shuffle"] = False  # Keras warns that a generator is not.
    weights = []
    for cls in (keras.Model, Fused):
        model = make(cls)
        model.fit(batches(), **options)
        weights.append(model.get_weights())
    assert_same(*weights)


def test_a_fallback_says_why_once(capsys):
    model = make(Fused, run_eagerly=True, jit_compile=False)
    model.fit(X[:32], Y[:32], verbose=2)
    model.fit(X[:32], Y[:32], verbose=2)
    out = capsys.readouterr().out
    assert out.count("the model is compiled with run_eagerly=True") == 1


def test_data_larger_than_its_share_of_memory_takes_keras_path():
    stock = fit(make(keras.Model))
    model = make(Fused)
    model.resident_fraction = 0.0
    weights = fit(model)[1]
    assert_same(weights, stock[1])


def test_an_epoch_without_data_is_an_error():
    model = make(Fused)
    with pytest.raises(ValueError, match="needs at least one batch"):
        model.evaluate(X[:0], Y[:0], verbose=0)
