"""What `fit` does not do twice, or at all, before its first step."""

import gc

import keras_jax_ext as kje
from keras_jax_ext import _keras

import jax
import keras
import numpy as np
import pytest

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
compiled = []


def hear(event, duration, fun_name="", **_):
    if event == "/jax/core/compile/backend_compile_duration":
        compiled.append(fun_name)


jax.monitoring.register_event_duration_secs_listener(hear)


class Counted:
    """An activation that counts how often Python calls it."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return keras.ops.tanh(x)


class Own(keras.layers.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs, training=training)


def functional(layer, cls=kje.Model):
    inputs = keras.Input((3,))
    return cls(inputs, keras.layers.Dense(1)(layer(inputs)))


def sequential(layer, cls=kje.Sequential):
    return cls([keras.Input((3,)), layer, keras.layers.Dense(1)])


def extended(layer):
    return kje.extend(functional(layer, keras.Model))


def calls_of_fit(make, layer=keras.layers.Dense, **options):
    counted = Counted()
    model = make(layer(4, activation=counted))
    model.compile("sgd", "mse", metrics=["mae"])
    counted.calls = 0
    model.fit(X, Y, 8, verbose=0, **options)
    return counted.calls


@pytest.mark.parametrize("make", [functional, sequential, extended])
def test_a_model_of_known_outputs_is_not_called_to_build_its_losses(make):
    assert calls_of_fit(make) == 1


def test_a_layer_of_the_user_is_called_as_in_keras():
    assert calls_of_fit(functional, Own) == 2


def test_a_lambda_is_called_as_in_keras():
    counted = Counted()
    model = functional(keras.layers.Lambda(counted, output_shape=(3,)))
    model.compile("sgd", "mse")
    counted.calls = 0
    model.fit(X, Y, 8, verbose=0)
    assert counted.calls == 2


def shapes_of(model):
    return [(v.path, v.shape, v.dtype) for v in model.metrics_variables]


def two_outputs(cls):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    first = keras.layers.Dense(4, activation="sigmoid", name="first")(joined)
    second = keras.layers.Dense(1, name="second")(joined)
    model = cls({"a": a, "b": b}, {"first": first, "second": second})
    model.compile(
        "sgd",
        {"first": "binary_crossentropy", "second": "mse"},
        metrics={
            "first": [keras.metrics.AUC(multi_label=True, name="auc")],
            "second": ["mae"],
        },
        weighted_metrics={"second": ["mse"]},
    )
    return model


def test_metrics_and_losses_of_several_outputs_are_as_in_keras():
    x = {"b": X[:, :2], "a": X}
    y = {"first": (np.abs(X.sum(1)) < [[1]] * 4).T.astype("int32"), "second": Y}
    weights = {"first": np.ones(24), "second": np.linspace(0, 1, 24)}
    runs = []
    for cls in (keras.Model, kje.Model):
        keras.utils.set_random_seed(3)
        model = two_outputs(cls)
        history = model.fit(x, y, 8, 2, sample_weight=weights, verbose=0)
        runs.append((shapes_of(model), history.history))
    (expected, logs), (found, ours) = runs
    assert [s[1:] for s in found] == [s[1:] for s in expected]
    assert list(ours) == list(logs)
    for name, values in logs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5)


def test_inputs_of_another_shape_get_keras_error():
    model = functional(keras.layers.Dense(4))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="expected"):
        model.fit(X[:, :2], Y, verbose=0)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(amsgrad=True),
    "momentum": lambda: keras.optimizers.SGD(momentum=0.9),
    "ftrl": lambda: keras.optimizers.Ftrl(initial_accumulator_value=0.5),
    "average": lambda: keras.optimizers.Lion(use_ema=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_is_that_of_keras(name):
    made = []
    for built_by_fit in (True, False):
        keras.utils.set_random_seed(5)
        model = functional(keras.layers.Dense(4))
        model.compile(OPTIMIZERS[name](), "mse")
        if built_by_fit:
            with _keras.made_on_host(model.optimizer):
                model.optimizer.build(model.trainable_variables)
            assert "add_variable" not in vars(model.optimizer)
        else:
            model.optimizer.build(model.trainable_variables)
        made.append(model.optimizer.variables)
    ours, theirs = made
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


def test_no_program_is_compiled_for_each_shape_of_an_optimizer():
    widths = 11, 13, 17, 19, 23
    model = kje.Sequential([keras.Input((3,))])
    for width in widths:
        model.add(keras.layers.Dense(width))
    model.add(keras.layers.Dense(1))
    model.compile("adam", "mse")
    jax.clear_caches()
    compiled.clear()
    model.fit(X, Y, 8, verbose=0)
    assert compiled.count("jit(run)") == 1
    assert len(compiled) < len(widths)


class Asking(keras.layers.Layer):
    """Notes whether Python looks for garbage while it is called."""

    def __init__(self):
        super().__init__()
        self.seen, self.fails = [], False

    def call(self, x):
        self.seen.append(gc.isenabled())
        if self.fails:
            raise RuntimeError("so")
        return x


@pytest.fixture
def asking():
    model = functional(Asking())
    model.compile("sgd", "mse")
    layer = model.layers[1]
    layer.seen.clear()
    yield model, layer
    gc.enable()


def test_python_looks_for_no_garbage_while_steps_are_traced(asking):
    model, layer = asking
    model.fit(X, Y, 8, verbose=0, validation_data=(X, Y))
    model.predict(X, verbose=0)
    assert layer.seen
    assert not any(layer.seen)
    assert gc.isenabled()


def test_python_looks_for_garbage_again_after_a_failure(asking):
    model, layer = asking
    model.fit(X, Y, 8, verbose=0)
    layer.fails = True
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="so"):
        model.fit(X, Y, 8, verbose=0)
    assert gc.isenabled()


def test_who_has_switched_it_off_keeps_it_so(asking):
    model, _ = asking
    gc.disable()
    model.fit(X, Y, 8, verbose=0)
    assert not gc.isenabled()


def test_an_input_that_may_be_absent_is_asked_for_as_in_keras():
    needed = keras.Input((3,), name="needed")
    extra = keras.Input((3,), name="extra", optional=True)
    model = kje.Model([needed, extra], keras.layers.Dense(1)(needed))
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit([X, None], Y, verbose=0)
    with pytest.raises(ValueError, match="not optional"):
        model.fit([None, X], Y, verbose=0)
