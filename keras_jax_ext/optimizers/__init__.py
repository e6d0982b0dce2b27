"""Optimizers: any optax transformation, beside those of Keras."""

from typing import TYPE_CHECKING

from keras_jax_ext._by_name.mirror import mirror
from keras_jax_ext.optimizers._by_path import label_by_path, mask_by_path
from keras_jax_ext.optimizers._evaluation import evaluation_weights
from keras_jax_ext.optimizers._get import get
from keras_jax_ext.optimizers._optax_optimizer import OptaxOptimizer
from keras_jax_ext.optimizers._per_example import PerExample

import keras

__all__ = [
    "OptaxOptimizer",
    "PerExample",
    "evaluation_weights",
    "get",
    "label_by_path",
    "mask_by_path",
]


__getattr__, __dir__ = mirror(globals(), keras.optimizers)


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # names where Keras has the same.
    from keras.optimizers import *  # noqa: F403
