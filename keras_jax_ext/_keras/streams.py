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


def streams() -> dict[str, Any]:
    """The states of the global streams, as JSON holds them."""
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)
    held = get_global_attribute(GLOBAL_SEED_GENERATOR)
    state = held and np.asarray(held.state.value).tolist()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "seed": get_global_attribute(GLOBAL_RANDOM_SEED),
        "generator": held and [held.seed, held.name, state],
    }


def set_streams(states: dict[str, Any]) -> None:
    """Set the global streams.

    Args:
        states: Dict, from `streams`.
    """
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, "uint32"), *rest))
    set_global_attribute(GLOBAL_RANDOM_SEED, states["seed"])
    generator = None
    if states["generator"]:
        seed, name, state = states["generator"]
        # By its name: another one would count in the names of later ones.
        generator = keras.random.SeedGenerator(seed, name=name)
        generator.state.assign(np.array(state, "uint32"))
    set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


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
        before = streams()
        if self._state is None:
            keras.utils.set_random_seed(self.seed)
        else:
            set_streams(self._state)
        try:
            with fresh_names(self._names):
                yield
        finally:
            self._state = streams()
            set_streams(before)
