"""Our methods stand below those of a model's class, above `keras.Model`'s."""

import inspect

import keras_jax_ext as kje
from keras_jax_ext._loop.memo import memo

import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


class Plain(keras.Model):
    """A model of a library that knows nothing of ours."""

    def __init__(self):
        super().__init__()
        self.net = keras.layers.Dense(1)

    def call(self, x):
        return self.net(x)


class Scaled(Plain):
    """As tasks that preprocess: each method takes raw data."""

    def fit(self, x=None, y=None, *, scale=0.5, **kwargs):
        return super().fit(x * scale, y, **kwargs)

    def evaluate(self, x=None, y=None, **kwargs):
        return super().evaluate(x * 0.5, y, **kwargs)

    def predict(self, x, **kwargs):
        return super().predict(x * 0.5, **kwargs)


class Defaults(Plain):
    def compile(self, optimizer="auto", loss="auto", **kwargs):
        optimizer = "adam" if optimizer == "auto" else optimizer
        super().compile(optimizer, "mae" if loss == "auto" else loss, **kwargs)


class Adversarial(Plain):
    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile(optimizer=g_optimizer, loss=loss_fn)
        self.d_optimizer = keras.optimizers.get(d_optimizer)


class Steps(Plain):
    """Overrides every step, and what the steps ask."""

    def train_step(self, state, data):
        x, y = data[:2]
        return super().train_step(state, (2 * x, y))

    def test_step(self, state, data):
        x, y = data[:2]
        return super().test_step(state, (3 * x, y))

    def predict_step(self, state, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return super().predict_step(state, (4 * x,))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return 2 * super().compute_loss(x, y, y_pred, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "twice": 2 * logs["loss"]}


class OnBatch(Plain):
    def train_on_batch(self, x, y=None, **kwargs):
        return super().train_on_batch(2 * x, y, **kwargs)

    def test_on_batch(self, x, y=None, **kwargs):
        return super().test_on_batch(2 * x, y, **kwargs)

    def predict_on_batch(self, x):
        return super().predict_on_batch(2 * x)


def stock(model):
    return model


COMPILED = {
    Scaled: ("sgd", "mse"),
    Defaults: (),
    Adversarial: ("adam", "sgd", "mse"),
    Steps: ("sgd", "mse"),
    OnBatch: ("sgd", "mse"),
}


def used(wrap, cls):
    """What a user sees of a model, after each method was used."""
    keras.utils.set_random_seed(1)
    model = wrap(cls())
    model.compile(*COMPILED[cls])
    history = model.fit(
        X, Y, batch_size=8, verbose=0, epochs=2, validation_data=(X, Y)
    ).history
    seen = [history[name] for name in sorted(history)]
    seen += [model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)]
    seen += [model.train_on_batch(X, Y), model.test_on_batch(X, Y)]
    seen += [model.predict_on_batch(X), *model.get_weights()]
    return sorted(history), seen, model


@pytest.mark.parametrize("cls", COMPILED, ids=lambda cls: cls.__name__)
def test_what_a_class_overrides_goes_on_being_called(cls):
    names, expected, _ = used(stock, cls)
    own_names, values, model = used(kje.extend, cls)
    assert own_names == names
    for value, reference in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-6)
    assert {mode.name for mode in memo(model).programs} >= {"train", "test"}


def test_an_override_takes_its_own_arguments():
    model = kje.extend(Scaled())
    model.compile("sgd", "mse")
    model.fit(X, Y, scale=0.1, verbose=0)
    assert inspect.signature(model.fit) == inspect.signature(Scaled().fit)


def test_an_override_may_compile_losses_of_ours():
    model = kje.extend(Defaults())
    model.compile(loss=kje.losses.Loss(lambda y_true, y_pred, x: y_pred - x))
    assert model.fit(X, X, verbose=0).history["loss"]
    assert isinstance(model.optimizer, keras.optimizers.Adam)


def test_a_subclass_of_ours_is_called_before_ours():
    class Ours(Scaled, kje.Model):
        pass

    _, expected, _ = used(stock, Scaled)
    COMPILED[Ours] = COMPILED[Scaled]
    _, values, _ = used(stock, Ours)
    for value, reference in zip(values, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-6)


def test_an_extended_model_makes_its_functions_anew(capsys):
    model = Plain()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    kje.extend(model)
    model.fit(X, Y, verbose=2)
    assert "one step at a time" not in capsys.readouterr().out


METHODS = [
    *("compile", "fit", "evaluate", "predict", "train_on_batch"),
    *("test_on_batch", "predict_on_batch", "compute_loss", "compute_metrics"),
    *("train_step", "test_step", "predict_step", "stateless_call"),
]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cls", [kje.Model, kje.Sequential])
def test_a_method_has_the_parameters_of_keras(cls, name):
    """Clients pass on only the arguments that a signature names."""
    ours, theirs = (
        inspect.signature(getattr(each, name)).parameters.values()
        for each in (cls, keras.Model)
    )
    # What is added comes last, and by keyword only.
    added = {"compile": ["updates"]}.get(name, [])
    ours, last = list(ours)[: len(theirs)], list(ours)[len(theirs) :]
    assert [p.name for p in last if p.kind is p.KEYWORD_ONLY] == added
    assert [(p.name, p.kind) for p in ours] == [
        (p.name, p.kind) for p in theirs
    ]
    changed = {p.name for p in ours} & {"steps_per_execution"}
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.name in changed or mine.default == other.default


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("kind", ["ours", "extended"])
def test_a_replaced_method_of_keras_is_called(
    monkeypatch, capsys, kind, method, wraps
):
    """Tools that log runs replace `keras.Model.fit`."""
    original, calls = getattr(keras.Model, method), []

    def patched(self, *args, **kwargs):
        calls.append(method)
        assert None not in kwargs.values()  # only what was given
        return original(self, *args, **kwargs)

    if wraps:
        patched.__wrapped__ = original
        patched.__module__ = original.__module__
    monkeypatch.setattr(keras.Model, method, patched)
    base = kje.Sequential if kind == "ours" else keras.Sequential
    model = kje.extend(base([keras.Input((3,)), keras.layers.Dense(1)]))
    model.compile("sgd", "mse")
    labels = {} if method == "predict" else {"y": Y}
    getattr(model, method)(X, **labels, verbose=2)
    assert calls == [method]
    told = capsys.readouterr().out
    assert f"has replaced keras.Model.{method}" in told
