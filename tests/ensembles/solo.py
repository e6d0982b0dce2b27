"""Members made and trained alone, which an ensemble is compared with."""

import keras_jax_ext as kje
from keras_jax_ext import layers

import keras
import numpy as np

RANDOM = np.random.default_rng(0)
# 70 rows in batches of 16: the last batch is smaller.
X = RANDOM.normal(size=(70, 3)).astype("float32")
Y = X.sum(1, keepdims=True) + 0.1 * X[:, :1] ** 2
BATCH = 16


@keras.saving.register_keras_serializable("tests")
class Net(kje.Model):
    """Made inline, with random numbers and statistics."""

    def call(self, x):
        x = layers.Dense(8, activation="relu")(x)
        x = layers.Dropout(0.3)(x)
        x = layers.BatchNormalization()(x)
        return layers.Dense(1)(x)


@keras.saving.register_keras_serializable("tests")
class Plain(kje.Model):
    """Made inline, without them."""

    def call(self, x):
        return layers.Dense(1)(layers.Dense(8, activation="tanh")(x))


def functional():
    """A stock functional model."""
    inputs = keras.Input((3,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def sequential():
    """A stock model that learns its shapes from the first batch."""
    return keras.Sequential(
        [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    )


def ensemble(build=Net, n=3, optimizer="adam", loss="mse", **options):
    """An ensemble, compiled."""
    made = kje.Ensemble(build, n)
    made.compile(optimizer, loss, **options)
    return made


def alone(i, build=Net, optimizer="adam", loss="mse", x=X, **options):
    """Member `i`, built before the random streams are set for its order."""
    keras.utils.set_random_seed(i)
    model = kje.extend(build())
    with keras.StatelessScope():
        keras.ops.shape(model(x[:1]))
    model.compile(optimizer, loss, **options)
    return model


def fit(model, x=X, y=Y, **options):
    """The history of a `fit` whose order does not depend on the past."""
    keras.utils.set_random_seed(99)
    given = {"batch_size": BATCH, "epochs": 3, "verbose": 0, **options}
    return model.fit(x, y, **given)


def assert_same_model(one, other, tolerance=1e-6):
    """The weights, statistics and random states are equal."""
    for a, b in zip(one.variables, other.variables, strict=True):
        np.testing.assert_allclose(a, b, tolerance, tolerance)


def assert_same_optimizer(one, other, tolerance=1e-6):
    """The states of the optimizers are equal."""
    pairs = zip(one.optimizer.variables, other.optimizer.variables, strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, tolerance, tolerance)


def assert_same_logs(history, other, i, tolerance=1e-6):
    """The logs of a history are those of member `i` in another."""
    assert {*history.history} == {*other.members}
    for name, values in history.history.items():
        np.testing.assert_allclose(
            values, other.members[name][:, i], tolerance, tolerance
        )
