"""keras-mdn-layer with a loss of ours: the whole output by name."""

import keras_jax_ext as kje

import keras
import keras_mdn_layer as mdn
import numpy as np
import pytest
from beside_stock import assert_as_stock

OUTPUTS, MIXTURES = 2, 3


def data():
    random = np.random.default_rng(2)
    x = random.normal(size=(64, 1)).astype("float32")
    return x, np.concatenate([np.sin(x), np.cos(x)], -1)


def layers():
    return [
        keras.Input((1,)),
        keras.layers.Dense(8, activation="tanh"),
        mdn.MDN(OUTPUTS, MIXTURES),
    ]


def nll(y_true, y_pred):
    return mdn.get_mixture_loss_func(OUTPUTS, MIXTURES)(y_true, y_pred)


class Likelihood(kje.losses.Loss):
    """The package's loss, for each sample of the whole output."""

    def call(self, y_true, y_pred):
        return nll(y_true, y_pred)


def sequential(cls, loss):
    def way():
        model = cls(layers())
        model.compile(keras.optimizers.Adam(1e-2), loss=loss)
        return model

    return way


def inline():
    class Net(kje.Model):
        def call(self, x):
            h = kje.layers.Dense(8, activation="tanh")(x)
            return kje.inline(mdn.MDN)(OUTPUTS, MIXTURES)(h)

    model = Net()
    model.compile(keras.optimizers.Adam(1e-2), loss=Likelihood())
    return model


WAYS = {
    "sequential": sequential(kje.Sequential, Likelihood()),
    "function": sequential(kje.Sequential, kje.losses.Loss(nll)),
    "inline": inline,
}


def workflow(make):
    model = make()
    x, y = data()
    done = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    history = {"loss": done.history["loss"]}
    return model, (history, model.predict(x, verbose=0))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_mixture_trains_as_in_stock(way, loops):
    stock = sequential(keras.Sequential, nll)
    modes = ("train", "predict")
    model = assert_as_stock(workflow, stock, way, loops, modes)
    params = model.predict(np.zeros((1, 1)), verbose=0)[0]
    sample = mdn.sample_from_output(params, OUTPUTS, MIXTURES)
    assert sample.shape == (OUTPUTS,)


def test_a_penalty_beside_the_mixture_is_one_on_every_weight(loops):
    l2 = keras.regularizers.L2(1e-2)

    def stock():
        model = sequential(keras.Sequential, nll)()
        hidden, mixture = model.layers
        dense = [mixture.mdn_mus, mixture.mdn_sigmas, mixture.mdn_pi]
        for layer in (hidden, *dense):
            # A built layer's variables hold the regularizers.
            layer.kernel.regularizer = layer.bias.regularizer = l2
        return model

    ours = sequential(kje.Sequential, [Likelihood(), kje.losses.GlobalL2(1e-2)])
    assert_as_stock(workflow, stock, ours, loops, ("train", "predict"))
