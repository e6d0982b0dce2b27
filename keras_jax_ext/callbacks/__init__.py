"""Callbacks of ours, and under the same names those of `keras.callbacks`."""

from typing import TYPE_CHECKING

from keras_jax_ext._by_name.mirror import mirror
from keras_jax_ext.callbacks.backup import BackupAndRestore
from keras_jax_ext.callbacks.evaluation import EvaluationWeights
from keras_jax_ext.callbacks.members import MemberEarlyStopping
from keras_jax_ext.callbacks.nan_finder import NaNFinder
from keras_jax_ext.callbacks.tensorboard import TensorBoard

import keras

__all__ = [
    "BackupAndRestore",
    "EvaluationWeights",
    "MemberEarlyStopping",
    "NaNFinder",
    "TensorBoard",
]

__getattr__, __dir__ = mirror(globals(), keras.callbacks)


if TYPE_CHECKING:
    # For editors and type checkers. It stands last, so that they keep our
    # names where Keras has the same.
    from keras.callbacks import *  # noqa: F403
