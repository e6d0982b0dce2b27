"""Trains on eight devices; `test_distribution.py` runs it in a process."""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import keras_jax_ext as kje

import jax
import keras
import numpy as np

RANDOM = np.random.default_rng(0)
# 32 rows to a batch; eight devices cannot share the 22 of the last one.
X = RANDOM.normal(size=(150, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def one_device():
    """No distribution."""
    return


def data_parallel():
    """The weights on every device, and a share of each batch."""
    return keras.distribution.DataParallel()


def model_parallel():
    """The kernel of the first layer cut in two."""
    mesh = keras.distribution.DeviceMesh((4, 2), ("batch", "model"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts["wide/kernel"] = (None, "model")
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name="batch"
    )


def make(distribution):
    """A small model with state of every kind."""
    # This forgets the distribution too.
    keras.utils.clear_session(free_memory=False)
    keras.distribution.set_distribution(distribution())
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dense(8, activation="relu", name="wide")(inputs)
    h = keras.layers.BatchNormalization()(keras.layers.Dropout(0.2)(h))
    model = kje.Model(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"])
    return model


def from_arrays(model):
    history = model.fit(
        X, Y, epochs=2, validation_split=0.2, batch_size=32, verbose=0
    )
    return history.history


def from_generator(model):
    def batches():
        while True:
            for i in range(0, 150, 32):
                yield X[i : i + 32], Y[i : i + 32]

    history = model.fit(
        batches(), steps_per_epoch=5, epochs=2, shuffle=False, verbose=0
    )
    return history.history


def results(distribution, fit):
    """What a fit leaves, as lists."""
    model = make(distribution)
    found = {"history": fit(model)}
    found["weights"] = [w.tolist() for w in model.get_weights()]
    if fit is from_arrays:
        found["evaluated"] = model.evaluate(X, Y, batch_size=32, verbose=0)
        predicted = model.predict(X, batch_size=32, verbose=0)
        found["predicted"] = predicted.tolist()
    variables = [model.get_layer("wide").kernel, *model.optimizer.variables]
    found["shards"] = [
        list(v.value.addressable_shards[0].data.shape) for v in variables
    ]
    found["devices"] = len(model.weights[0].value.sharding.device_set)
    return found


def main():
    """Print the results of every kind of distribution and of data."""
    assert jax.device_count() == 8
    found = {
        kind.__name__: {
            fit.__name__: results(kind, fit)
            for fit in (from_arrays, from_generator)
        }
        for kind in (one_device, data_parallel, model_parallel)
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
