"""Callbacks beside those of `keras.callbacks`."""

from keras_jax_ext.callbacks.evaluation import (
    EvaluationWeights as EvaluationWeights,
)
from keras_jax_ext.callbacks.nan_finder import NaNFinder as NaNFinder
from keras_jax_ext.callbacks.tensorboard import TensorBoard as TensorBoard
