"""Layers."""

import keras


class Layer(keras.Layer):
    """A layer."""
