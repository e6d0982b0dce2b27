"""jax-privacy replaces `fit` and `train_step` of a model of ours."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest
from beside_stock import assert_as_stock
from jax_privacy import keras_api

# It calls optax by an old name.
pytestmark = pytest.mark.filterwarnings(
    "ignore:optax.global_norm is deprecated:DeprecationWarning"
)
SIZE, BATCH, EPOCHS = 64, 8, 2


def data():
    random = np.random.default_rng(1)
    x = random.normal(size=(SIZE, 3)).astype("float32")
    return x, x.sum(-1, keepdims=True)


def config(**options):
    given = {
        "epsilon": 20.0,
        "delta": 1e-5,
        "clipping_norm": 1.0,
        "batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "train_steps": SIZE // BATCH * EPOCHS,
        "train_size": SIZE,
        "noise_multiplier": 1.0,
        "seed": 3,
    }
    return keras_api.DPKerasConfig(**{**given, **options})


def layers():
    return [
        keras.Input((3,)),
        keras.layers.Dense(4, activation="relu"),
        keras.layers.Dense(1),
    ]


WAYS = {
    "sequential": kje.Sequential,
    "extend": lambda layers: kje.extend(keras.Sequential(layers)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_private_model_trains_as_in_stock(way, loops):
    def workflow(sequential):
        model = keras_api.make_private(sequential(layers()), config())
        model.compile("adam", "mse")
        done = model.fit(*data(), batch_size=BATCH, epochs=EPOCHS, verbose=0)
        return model, done.history

    model = assert_as_stock(workflow, keras.Sequential, way, loops)
    # Every step counted against the budget.
    (steps,) = (v for v in model.non_trainable_weights if "steps" in v.name)
    assert int(steps.numpy()[0]) == SIZE // BATCH * EPOCHS
    with pytest.raises(RuntimeError, match="run out of privacy budget"):
        model.fit(*data(), batch_size=BATCH, verbose=0)


def test_poisson_sampling_reads_the_sampled_batches(loops):
    def workflow(sequential):
        private = config(poisson_sampling_in_fit=True)
        model = keras_api.make_private(sequential(layers()), private)
        model.compile("adam", "mse")
        done = model.fit(*data(), batch_size=BATCH, epochs=EPOCHS, verbose=0)
        return model, done.history

    assert_as_stock(workflow, keras.Sequential, kje.Sequential, loops)
