"""Models: what the lower floors build, composed on Keras's own classes."""

import keras

from keras_jax_ext._optax_step import OptaxTraining


class Model(OptaxTraining, keras.Model):
    """A Keras model whose layers are declared where they are used."""


class Sequential(keras.Sequential, Model):
    """A stack of layers, as `keras.Sequential`."""
