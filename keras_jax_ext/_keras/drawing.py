"""Initial weights of any shape from programs for a few sizes.

Replaced by: an initializer of Keras that compiles less.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

# ruff: isort: off
# What Keras's initializers draw with. No public counterpart.
from keras.src.backend import random

# Whether JAX traces now. No public counterpart.
from keras.src.utils import jax_utils

# ruff: isort: on

_CONSTANTS = {keras.initializers.Zeros: 0, keras.initializers.Ones: 1}
_DRAWS = ("normal", "truncated_normal", "uniform")
# Numbers, and their double: to draw more than are wanted takes less time than
# to compile the program for another shape.
_FEWEST, _MOST = 2**10, 2**24


def draw_by_size() -> None:
    """Let Keras draw initial weights with one program a size, not a shape.

    The numbers are the same: JAX computes each from the key and its place,
    however many there are. Sizes are powers of two. Zeros and ones need no
    program.
    """
    for name in _DRAWS:
        draw = getattr(random, name)
        if not hasattr(draw, "__wrapped__"):
            setattr(random, name, _by_size(draw))
    for initializer, value in _CONSTANTS.items():
        if not hasattr(initializer.__call__, "__wrapped__"):
            initializer.__call__ = _filled(initializer.__call__, value)


def _by_size(draw: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(draw)
    def by_size(shape, *args, **kwargs):
        # Two numbers, the type and the seed.
        numbers = [*args[:2]]
        numbers += [v for n, v in kwargs.items() if n not in ("dtype", "seed")]
        size = _size(shape)
        if size is None or not all(isinstance(n, int | float) for n in numbers):
            return draw(shape, *args, **kwargs)
        most = max(_FEWEST, 1 << (size - 1).bit_length())
        drawn = np.asarray(draw((most,), *args, **kwargs))
        return jax.device_put(drawn[:size].reshape(shape))

    return by_size


def _filled(call: Callable[..., Any], value: int) -> Callable[..., Any]:
    @functools.wraps(call)
    def filled(self, shape, dtype=None):
        if _size(shape) is None:
            return call(self, shape, dtype)
        dtype = keras.backend.standardize_dtype(dtype)
        return jax.device_put(np.full(shape, value, dtype))

    return filled


def _size(shape):
    """How many numbers to draw; `None` where that is known to no use."""
    config: Any = jax.config
    if not all(isinstance(d, int) for d in shape):
        return None
    size = math.prod(shape)
    return (
        size
        if 0 < size <= _MOST
        and not jax_utils.is_in_jax_tracing_scope()
        and jax.default_backend() == "cpu"
        and config.jax_default_prng_impl == "threefry2x32"
        and config.jax_threefry_partitionable
        else None
    )
