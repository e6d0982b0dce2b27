"""Layers that act in training alone, in models that do not hand on `training`.

As a script, `modes.py keras PATH` or `modes.py tf_keras PATH`, it trains them
on TensorFlow: see `test_beside_tensorflow.py`.
"""

import importlib
import pickle
import sys

import numpy as np

SHAPES = {"lstm": (5, 3)}
LAYERS = {
    "batch_normalization": lambda k: k.BatchNormalization(momentum=0.5),
    "spectral_normalization": lambda k: k.SpectralNormalization(
        k.Dense(4), power_iterations=2
    ),
    "dropout": lambda k: k.Dropout(0.5),
    "gaussian_noise": lambda k: k.GaussianNoise(1.0),
    "lstm": lambda k: k.LSTM(4, dropout=0.5),
}
# What draws nothing: two runs come to the same weights.
FIXED = ["batch_normalization", "spectral_normalization"]
# It assigns its kernel in `call`: TensorFlow trains on from there, and JAX,
# where a step returns what it trains, loses it, handed `training` or not.
ONLY_JAX = "spectral_normalization"


def data(kind):
    random = np.random.default_rng(1)
    x = random.normal(size=(32, *SHAPES.get(kind, (3,)))).astype("float32")
    return x, x.reshape(32, -1).sum(-1, keepdims=True)


def subclassed(kind, named, layers, base):
    """A model that hands its layers `x` alone.

    Args:
        kind: String, a key of `LAYERS`.
        named: Boolean, whether `call` names `training`.
        layers: Module of the layers.
        base: Class of models.
    """

    class Net(base):
        def __init__(self):
            super().__init__()
            self.inner = LAYERS[kind](layers)
            self.outer = layers.Dense(1)

        def call(self, x):
            return self.outer(self.inner(x))

    class Named(Net):
        def call(self, x, training=False):
            return self.outer(self.inner(x))

    return Named() if named else Net()


def weights(model):
    groups = model.trainable_weights, model.non_trainable_weights
    return [[np.copy(w.numpy()) for w in group] for group in groups]


def figures(kind, model, optimizer, start=None):
    """What two epochs make of a model.

    Args:
        kind: String, a key of `LAYERS`.
        model: The model.
        optimizer: Class of plain gradient descent.
        start: Weights to begin from. Defaults to its own.

    Returns:
        Tuple of the weights before, the evaluation before, the losses of two
        epochs, and the weights after.
    """
    x, y = data(kind)
    model(x[:1])
    before = start or weights(model)
    groups = model.trainable_weights, model.non_trainable_weights
    for group, values in zip(groups, before, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)
    # Without a rate, only the mode can change the loss.
    model.compile(optimizer(0.05 if kind in FIXED else 0.0), "mse")
    evaluated = model.evaluate(x, y, verbose=0)
    done = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return before, evaluated, done.history["loss"], weights(model)


def main(name, path):
    keras = importlib.import_module(name)
    keras.utils.set_random_seed(0)
    every = {}
    # In the order of the table: the seed draws the same weights in every run.
    for kind in LAYERS:
        if kind == ONLY_JAX:
            continue
        model = subclassed(
            kind, name == "keras", keras.layers, keras.models.Model
        )
        every[kind] = figures(kind, model, keras.optimizers.SGD)
    with open(path, "wb") as file:
        pickle.dump(every, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
