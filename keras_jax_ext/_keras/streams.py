"""The random streams that a process has one of."""

import random
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
    get_global_attribute,
    set_global_attribute,
)


def streams() -> dict[str, Any]:
    """The states of the global streams, as JSON holds them."""
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)
    generator = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "seed": get_global_attribute(GLOBAL_RANDOM_SEED),
        "generator": generator
        and [generator.seed, np.asarray(generator.state.value).tolist()],
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
        seed, state = states["generator"]
        generator = keras.random.SeedGenerator(seed)
        generator.state.assign(np.array(state, "uint32"))
    set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
