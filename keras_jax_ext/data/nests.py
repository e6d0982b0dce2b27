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
    return mapped(_stack, *rows)


def _stack(*rows: Any) -> np.ndarray:
    shapes = sorted({np.shape(row) for row in rows})
    if len(shapes) > 1:
        raise ValueError(
            "Elements of a batch have one shape. Received: shapes "
            f"{shapes[:3]}. Use `padded_batch`, or give each one shape by "
            "`map`."
        )
    return np.stack(rows)


def padded(rows: list[Any], shapes: Any, values: Any) -> Any:
    """Stack elements that are filled up to a shape, or to the largest."""
    first = rows[0]
    if shapes is None:
        shapes = mapped(lambda _: None, first)
    if not is_nest(values):
        only = values
        values = mapped(lambda _: only, first)
    return mapped(_pad, first, shapes, values, *rows)


def _pad(first: Any, shape: Any, value: Any, *rows: Any) -> np.ndarray:
    largest = np.max([np.shape(row) for row in rows], axis=0)
    wanted = [int(n) for n in largest]
    for place, size in enumerate(shape or ()):
        if size is not None and int(size) >= 0:
            wanted[place] = int(size)
    if np.any(wanted < largest):
        raise ValueError(
            "An element is filled up to a shape, and not cut. Received: "
            f"padded_shapes={wanted}, and an element of shape "
            f"{tuple(map(int, largest))}. Give `None` for the largest of a "
            "batch."
        )
    return np.stack([_filled(np.asarray(row), wanted, value) for row in rows])


def _filled(row: np.ndarray, shape: list[int], value: Any) -> np.ndarray:
    full = np.full(
        shape, row.dtype.type() if value is None else value, row.dtype
    )
    full[tuple(slice(n) for n in row.shape)] = row
    return full


def rectangular(rows: Any) -> np.ndarray:
    """An array, whose rows have the same length."""
    try:
        return np.asarray(rows)
    except ValueError as error:
        raise ValueError(
            "The rows of an array have the same length: JAX has no ragged "
            f"ones. Received: {str(rows)[:60]}. Pad them, or use "
            "`from_generator` and `padded_batch`."
        ) from error


def whole(name: str, value: Any, *, least: int) -> int:
    """A count, which is at least so much."""
    number = int(value)
    if number < least or number != value:
        raise ValueError(
            f"`{name}` is an integer of at least {least}. Received: "
            f"{name}={value!r}. Give such a number."
        )
    return number


def is_dataset(method: str, value: Any) -> Any:
    """The same, if it is a dataset of ours."""
    if not hasattr(value, "_rows"):
        raise TypeError(
            f"`{method}` puts datasets together. Received: {value!r} (of type "
            f"{type(value).__name__}). Make it one by `Dataset.from_tensor_"
            "slices`."
        )
    return value
