"""Callbacks beside those of `keras.callbacks`."""

from keras_jax_ext.callbacks.evaluation import (
    EvaluationWeights as EvaluationWeights,
)
