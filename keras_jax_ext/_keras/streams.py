"""What a process has one of: its random streams, and counts of names."""

import collections
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# ruff: isort: off
# Where Keras keeps the seed that was set last, and the generator made of it.
# Replaced by: a public pair of functions that read and set the streams.
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED
# ruff: isort: on

from keras_jax_ext._keras.declaring import (
    fresh_names,
    get_global_attribute,
    set_global_attribute,
)

_NAMES = GLOBAL_RANDOM_SEED, GLOBAL_SEED_GENERATOR


class Alone:
    """Random streams and counts of names, as in a process of one's own.

    They go on where they stopped.

    Args:
        seed: Integer, as in `keras.utils.set_random_seed`.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state: Any = None
        self._names: Any = collections.defaultdict(int)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Within the block they are the process's; then its own are back."""
        before = _read()
        if self._state is None:
            keras.utils.set_random_seed(self.seed)
        else:
            _write(self._state)
        try:
            with fresh_names(self._names):
                yield
        finally:
            self._state = _read()
            _write(before)


def _read():
    held = [get_global_attribute(name) for name in _NAMES]
    return random.getstate(), np.random.get_state(), held


def _write(state):
    python, numpy, held = state
    random.setstate(python)
    np.random.set_state(numpy)
    for name, value in zip(_NAMES, held, strict=True):
        set_global_attribute(name, value)
