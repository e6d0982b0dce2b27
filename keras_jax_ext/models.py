"""Models: what the lower floors build, composed on Keras's own classes."""

import keras

from keras_jax_ext import optimizers


class _OptaxInCompile(keras.Model):
    """Accept an optax transformation in `compile`."""

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        super().compile(optimizers.get(optimizer), *args, **kwargs)


class Model(_OptaxInCompile):
    """A Keras model whose layers are declared where they are used."""


class Sequential(keras.Sequential, Model):
    """A stack of layers, as `keras.Sequential`."""
