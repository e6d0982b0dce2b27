"""tqdm's bars move as with stock Keras."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest
from beside_stock import assert_as_stock, assert_fused, seeded
from tqdm import tqdm
from tqdm.keras import TqdmCallback

X = np.linspace(-1, 1, 64, dtype="float32")[:, None]
Y = X**2


class Bar(tqdm):
    """A bar that keeps where it stood when it was closed."""

    ended = []

    def close(self):
        if not self.disable:
            self.ended.append((self.unit, self.n, self.total))
        super().close()


def workflow_of(verbose):
    def workflow(sequential):
        Bar.ended.clear()
        hidden = keras.layers.Dense(4, activation="tanh")
        model = sequential([keras.Input((1,)), hidden, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        bar = TqdmCallback(verbose=verbose, tqdm_class=Bar, mininterval=0)
        done = model.fit(
            X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[bar]
        )
        return model, (done.history, [n for _, n, _ in Bar.ended])

    return workflow


def extended(layers):
    return kje.extend(keras.Sequential(layers))


WAYS = {"sequential": kje.Sequential, "extend": extended}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_bar_of_epochs_leaves_the_loop_fused(way, loops):
    assert_as_stock(workflow_of(0), keras.Sequential, way, loops)
    assert Bar.ended == [("epoch", 2, 2)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("verbose", [1, 2])
def test_a_bar_of_batches_is_called_after_each(way, verbose, loops):
    workflow = workflow_of(verbose)
    _, expected, (history, _) = seeded(workflow, keras.Sequential)
    ended = list(Bar.ended)
    assert ("batch", 8, 8) in ended
    _, weights, (own_history, _) = seeded(workflow, way)
    assert Bar.ended == ended
    assert_fused(loops)
    np.testing.assert_allclose(own_history["loss"], history["loss"], rtol=1e-5)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
