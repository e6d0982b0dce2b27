"""Nets of `keras.applications`, extended."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest
from beside_stock import assert_as_stock, same

SHAPE = (32, 32, 3)


def whole():
    """A net of its own classes: BatchNormalization and Dropout inside."""
    return keras.applications.MobileNet(
        alpha=0.25, weights=None, classes=3, input_shape=SHAPE
    )


def frozen():
    """A head on a net that is not trained, as for fine-tuning."""
    net = keras.applications.VGG16(
        weights=None, include_top=False, pooling="avg", input_shape=SHAPE
    )
    net.trainable = False
    inputs = keras.Input(SHAPE)
    h = keras.layers.Dropout(0.5)(net(inputs))
    outputs = keras.layers.Dense(3, activation="softmax")(h)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("net", [whole, frozen])
def test_a_net_trains_as_in_stock(net, loops):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (16, *SHAPE)).astype("float32")
    y = random.integers(0, 3, 16)

    def workflow(way):
        model = way(net())
        model.compile(
            keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy"
        )
        done = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
        return model, (done.history, model.predict(x, verbose=0))

    modes = ("train", "predict")
    assert_as_stock(workflow, same, kje.extend, loops, modes)
