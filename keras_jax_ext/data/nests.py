"""Tuples and dicts of arrays; a list is an array, as in TensorFlow."""

from collections.abc import Callable
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np


def is_nest(value: Any) -> bool:
    return isinstance(value, (tuple, dict))


def mapped(function: Callable[..., Any], *nests: Any) -> Any:
    """Apply a function to the leaves of tuples and dicts; lists are leaves."""
    first = nests[0]
    if isinstance(first, tuple):
        return tuple(
            mapped(function, *each) for each in zip(*nests, strict=True)
        )
    if isinstance(first, dict):
        return {k: mapped(function, *(n[k] for n in nests)) for k in first}
    return function(*nests)


def leaves(nest: Any) -> list[Any]:
    found: list[Any] = []
    mapped(found.append, nest)
    return found


def to_device(leaf: Any) -> Any:
    if isinstance(leaf, grain.IterDataset):
        return leaf
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    return array if array.dtype.kind in "USO" else jnp.asarray(array)


def stacked(rows: list[Any]) -> Any:
    return mapped(lambda *leaves: np.stack(leaves), *rows)
