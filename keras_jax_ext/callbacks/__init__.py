"""Callbacks beside those of `keras.callbacks`."""

from keras_jax_ext.callbacks.tensorboard import TensorBoard as TensorBoard
