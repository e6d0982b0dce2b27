"""Losses added as functions, beside the same losses of regularizers."""

import keras_jax_ext as kje

import keras
import numpy as np

X = np.arange(24, dtype="float32").reshape(8, 3) / 24


def _model(regularizer=None):
    layer = keras.layers.Dense(
        2, kernel_initializer="ones", kernel_regularizer=regularizer
    )
    last = keras.layers.Dense(1, kernel_initializer="ones")
    return kje.Sequential([keras.Input((3,)), layer, last])


def _trained(model):
    model.compile("sgd", "mse")
    y = np.zeros((8, 1))
    fitted = model.fit(
        X, y, 4, epochs=3, verbose=0, shuffle=False, validation_data=(X, y)
    )
    return fitted.history


def test_a_function_is_the_loss_of_each_step():
    model = _model()
    kernel = model.layers[0].kernel
    kje.keras2.add_loss(
        model.layers[0], lambda: 0.01 * keras.ops.sum(kernel**2)
    )
    wanted = _trained(_model(keras.regularizers.L2(0.01)))
    for key, values in _trained(model).items():
        np.testing.assert_allclose(values, wanted[key], rtol=1e-6)
    assert len(model.losses) == 1


def test_several_functions_of_a_model_are_all_added():
    model = _model()
    kernel = model.layers[0].kernel
    halves = [lambda: 0.005 * keras.ops.sum(kernel**2)] * 2
    kje.keras2.add_loss(model, halves)
    wanted = _trained(_model(keras.regularizers.L2(0.01)))
    np.testing.assert_allclose(_trained(model)["loss"], wanted["loss"], 1e-6)


def test_a_model_with_another_loss_keeps_them():
    model = _model()
    kje.keras2.add_loss(model, lambda: keras.ops.ones(()))
    found = kje.keras2.with_loss(model, 0 * model.output)
    assert sorted(map(float, found.losses)) == [1.0]
    found(X)
    assert sorted(map(float, found.losses)) == [0.0, 1.0]
