"""Losses that a layer adds as functions, which Keras 3 takes as tensors."""

from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras

import keras


def add_loss(layer: Any, loss: Callable[[], Any] | Any) -> None:
    """As `layer.add_loss(lambda: ...)`: a loss of weights, computed each step.

    Keras 3 adds tensors alone, and within `call`. A function is asked whenever
    the losses are, so that it sees the weights of that step.

    Example:

    ```python
    layer = keras.layers.Dense(2, kernel_initializer="ones")
    layer.build((None, 3))
    kje.keras2.add_loss(layer, lambda: keras.ops.sum(layer.kernel) / 2)
    assert float(layer.losses[0]) == 3.0
    ```

    Args:
        layer: A layer or a model.
        loss: Function without arguments that returns a scalar, or a list of
            them. A tensor is added as Keras does.
    """
    for each in keras.tree.flatten(loss):
        if callable(each):
            _keras.add_computed_loss(layer, each)
        else:
            layer.add_loss(each)
