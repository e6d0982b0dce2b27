"""What Keras does around an optimizer, against the Keras equivalent."""

import os
import subprocess
import sys

import keras_jax_ext as kje
from keras_jax_ext.optimizers import OptaxOptimizer

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = 10 * X.sum(axis=1, keepdims=True)


def network(**dense):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh", name="hidden", **dense),
            keras.layers.Dense(1, name="out"),
        ]
    )


def trained(optimizer, callbacks=(), **dense):
    model = network(**dense)
    model.compile(optimizer, "mse")
    model.fit(
        X,
        Y,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def assert_equal(ours, stock):
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "around",
    [
        {"clipnorm": 0.5},
        {"clipvalue": 0.1},
        {"global_clipnorm": 0.5},
        {"use_ema": True, "ema_momentum": 0.8},
        {"use_ema": True, "ema_overwrite_frequency": 2},
        {"gradient_accumulation_steps": 2},
        {"loss_scale_factor": 4.0},
    ],
    ids=lambda a: next(iter(a)),
)
def test_arguments_around_an_optimizer(around):
    ours = trained(OptaxOptimizer(optax.sgd(0.01, momentum=0.9), **around))
    stock = trained(keras.optimizers.SGD(0.01, momentum=0.9, **around))
    assert_equal(ours, stock)


def test_a_constraint():
    dense = {"kernel_constraint": "max_norm"}
    ours = trained(OptaxOptimizer(optax.sgd(0.05)), **dense)
    assert_equal(ours, trained(keras.optimizers.SGD(0.05), **dense))


def test_swap_ema_weights():
    def make(cls, *args):
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        return trained(cls(*args, use_ema=True), [swap])

    assert_equal(
        make(OptaxOptimizer, optax.sgd(0.01)),
        make(keras.optimizers.SGD, 0.01),
    )


def test_multi_optimizer():
    def make(cls, *args):
        rest = keras.optimizers.SGD(0.01)
        hidden = cls(*args)
        return trained(
            keras.optimizers.MultiOptimizer(
                lambda v: hidden if "hidden" in v.path else rest
            )
        )

    assert_equal(
        make(OptaxOptimizer, optax.adam(0.01)),
        make(keras.optimizers.Adam, 0.01),
    )


def test_loss_scale_optimizer_skips_what_is_not_finite():
    inner = OptaxOptimizer(optax.adam(0.01))
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    variable = keras.Variable([1.0])
    scaled.build([variable])
    state, values = [v.value for v in scaled.variables], [variable.value]
    for gradient, expected in ((np.nan, 1.0), (8.0, 0.99)):
        gradients = [jnp.full(1, gradient)]
        values, state = scaled.stateless_apply(state, gradients, values)
        assert float(values[0][0]) == pytest.approx(expected)


def test_variables_that_their_gradient_replaces():
    scale = keras.Variable([1.0], name="scale")
    scale.overwrite_with_gradient = True
    kernel = keras.Variable([1.0], name="kernel")
    optimizer = OptaxOptimizer(optax.adam(0.1))
    optimizer.build([scale, kernel])
    optimizer.apply([np.array([3.0]), np.array([1.0])])
    assert float(scale[0]) == 3.0
    assert float(kernel[0]) == pytest.approx(0.9)
    assert not any("scale" in v.name for v in optimizer.variables)


def test_a_missing_gradient_leaves_weight_and_slots():
    one, two = (keras.Variable([1.0], name=n) for n in ("one", "two"))
    optimizer = OptaxOptimizer(optax.adam(0.1))
    optimizer.build([one, two])
    optimizer.apply([np.ones(1, "float32")] * 2)
    before = {v.name: np.array(v.value) for v in [*optimizer.variables, two]}
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([np.ones(1, "float32"), None])
    for variable in [*optimizer.variables, two]:
        same = np.array_equal(before[variable.name], np.array(variable.value))
        assert same == ("two" in variable.name)


def test_frozen_layers_and_a_new_compile():
    model = network()
    model.get_layer("hidden").trainable = False
    kernel = np.array(model.get_layer("hidden").kernel.value)
    for trainable in (False, True):
        model.get_layer("hidden").trainable = trainable
        model.compile(OptaxOptimizer(optax.adam(0.1)), "mse")
        model.fit(X, Y, verbose=0)
        after = np.array(model.get_layer("hidden").kernel.value)
        assert np.array_equal(kernel, after) is not trainable


def test_paths_that_are_equal_or_continue_each_other():
    paths = ["a", "a/b", "a/b", "a/b_1"]
    variables = []
    for path in paths:
        variable = keras.Variable([1.0], name="x")
        variable._path = path
        variables.append(variable)
    optimizer = OptaxOptimizer(optax.adam(0.1))
    optimizer.build(variables)
    optimizer.apply([np.full(1, i + 1.0, "float32") for i in range(4)])
    moments = [v for v in optimizer.variables if v.name.endswith("mu")]
    # One tenth of each gradient: no slot went to another variable.
    values = [float(v[0]) for v in moments]
    np.testing.assert_allclose(values, [0.1, 0.2, 0.3, 0.4], rtol=1e-5)
    names = [v.path for v in optimizer.variables]
    assert len(set(names)) == len(names)


def test_a_loop_of_ones_own():
    variable = keras.Variable([1.0])
    optimizer = OptaxOptimizer(optax.sgd(0.1))
    optimizer.apply([np.ones(1, "float32")], [variable])
    assert float(variable[0]) == pytest.approx(0.9)
    state = [v.value for v in optimizer.variables]
    (value,), state = optimizer.stateless_apply(
        state, [np.ones(1, "float32")], [variable.value]
    )
    assert float(value[0]) == pytest.approx(0.8)
    assert float(variable[0]) == pytest.approx(0.9)
    assert int(state[0]) == 2


def test_distribution_places_slots_like_their_variables():
    devices = keras.distribution.list_devices()[:1]
    with keras.distribution.DataParallel(devices=devices).scope():
        model = trained(
            OptaxOptimizer(
                optax.chain(
                    optax.adam(0.01), optax.scale_by_schedule(lambda count: 1.0)
                )
            )
        )
    assert_equal(model, trained(keras.optimizers.Adam(0.01)))


NNX = """
import keras, numpy as np, optax
import keras_jax_ext as kje
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
model.compile(kje.optimizers.OptaxOptimizer(optax.sgd(0.1)), "mse")
x = np.ones((8, 2), "float32")
losses = model.fit(x, x[:, :1], epochs=3, verbose=0).history["loss"]
# Each step leaves 1 - 0.1 * 2 * 3 = 0.4 of the error.
np.testing.assert_allclose(losses, [1.0, 0.4**2, 0.4**4], rtol=1e-5)
"""


def test_nnx_mode():
    pytest.importorskip("flax")
    environment = {**os.environ, "KERAS_NNX_ENABLED": "true"}
    subprocess.run([sys.executable, "-c", NNX], env=environment, check=True)


def test_optax_is_imported_on_first_use_only():
    code = "import sys, keras_jax_ext; assert 'optax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_labels_and_masks_by_path():
    labels = kje.optimizers.label_by_path({"*/out/*": "out"}, default="frozen")
    model = trained(
        OptaxOptimizer(
            optax.partition(
                {"out": optax.sgd(0.01), "frozen": optax.set_to_zero()}, labels
            )
        )
    )
    fresh = network()
    for layer, moved in (("hidden", False), ("out", True)):
        same = np.array_equal(
            model.get_layer(layer).kernel, fresh.get_layer(layer).kernel
        )
        assert same is not moved
