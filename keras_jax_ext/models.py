"""Models: what the lower floors build, composed on Keras's own classes."""

import keras


class Model(keras.Model):
    """A Keras model whose layers are declared where they are used."""


class Sequential(keras.Sequential, Model):
    """A stack of layers, as `keras.Sequential`."""
