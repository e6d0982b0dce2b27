"""Keras 3 on JAX, shorter to write and faster to train."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# First: chooses the JAX backend, before anything else imports keras.
from keras_jax_ext import _keras as _keras
from keras_jax_ext import layers, losses, metrics, models, optimizers
from keras_jax_ext._inline.scope import inline
from keras_jax_ext._loop.cached import cache_programs
from keras_jax_ext._loop.points import Points
from keras_jax_ext._training.updates import MovingAverage, Update
from keras_jax_ext.ensembles import Ensemble
from keras_jax_ext.layers import Layer
from keras_jax_ext.models import Model, Sequential, extend
from keras_jax_ext.transforms import (
    assign,
    derivative,
    derivatives,
    functional,
    value_and_grad,
)

__all__ = [
    "Ensemble",
    "Layer",
    "Model",
    "MovingAverage",
    "Points",
    "Sequential",
    "Update",
    "assign",
    "cache_programs",
    "callbacks",
    "data",
    "derivative",
    "derivatives",
    "extend",
    "functional",
    "inline",
    "keras2",
    "layers",
    "losses",
    "metrics",
    "models",
    "optax",
    "optimizers",
    "value_and_grad",
]


if TYPE_CHECKING:
    from keras_jax_ext import callbacks, data, keras2, optax
else:  # a type checker would take any name for one that it finds

    def __getattr__(name: str) -> Any:
        # Imported when first asked for: optax takes a third of a second.
        if name in ("callbacks", "data", "keras2", "optax"):
            return importlib.import_module(f"keras_jax_ext.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
