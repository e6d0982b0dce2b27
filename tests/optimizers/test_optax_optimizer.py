"""`OptaxOptimizer`: in `compile`, in a stock model, in a loop of one's own."""

import keras_jax_ext as kje
from keras_jax_ext import optimizers

import keras
import numpy as np
import optax
import pytest

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True) ** 2


def network(base=kje.Model):
    """A small functional model with the same weights each time."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", name="hidden")(inputs)
    outputs = keras.layers.Dense(1, name="out")(hidden)
    return base(inputs, outputs)


def trained(optimizer, base=keras.Model, **fit):
    model = network(base)
    model.compile(optimizer, "mse")
    keras.utils.set_random_seed(2)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, **fit)
    return model


def assert_equal_weights(a, b):
    # Keras orders the operations of its own optimizers differently.
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_stock_model_trains_as_with_the_keras_optimizer():
    ours = trained(optimizers.OptaxOptimizer(optax.sgd(0.05, momentum=0.9)))
    stock = trained(keras.optimizers.SGD(0.05, momentum=0.9))
    assert_equal_weights(ours, stock)


def test_compile_takes_a_raw_transformation():
    model = kje.Sequential([keras.layers.Dense(1)])
    model.compile(optax.sgd(0.01), "mse")
    assert isinstance(model.optimizer, optimizers.OptaxOptimizer)
    history = model.fit(X, Y, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_get_leaves_what_is_keras_to_keras():
    adam = keras.optimizers.Adam()
    assert optimizers.get(adam) is adam
    assert optimizers.get(None) is None
    assert isinstance(optimizers.get("adam"), keras.optimizers.Adam)


def test_get_explains_a_function_that_was_not_called():
    with pytest.raises(ValueError, match=r"Call it, `adam\(learning_rate"):
        optimizers.get(optax.adam)


def test_get_passes_on_the_error_of_keras():
    with pytest.raises(ValueError, match="Could not interpret"):
        optimizers.get(3)
