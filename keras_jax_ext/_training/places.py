"""The variables of a model, found by patterns of where they are in it."""

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext.optimizers._by_path import unmatched

import keras


def find(
    model: Any,
    patterns: Sequence[str],
    variables: Sequence[keras.Variable],
    what: str = "trainable variable",
) -> list[keras.Variable]:
    """The variables that a pattern matches, in their own order.

    Args:
        model: A built model.
        patterns: Strings such as `"critic/*"`.
        variables: Those of the model to choose from.
        what: How messages call one of these.

    Raises:
        ValueError: If a pattern matches none of them.
    """
    names = _names(model)
    found: set[int] = set()
    for pattern in patterns:
        matched = {
            id(v)
            for v in variables
            if any(fnmatch.fnmatchcase(n, pattern) for n in names[id(v)])
        }
        if not matched:
            known = [names[id(v)][0] for v in variables]
            raise unmatched(pattern, known, what)
        found |= matched
    return [v for v in variables if id(v) in found]


def _names(model):
    """Names by the id of the variable: by attribute first, then by path.

    Paths alone do not tell apart two networks of a class, and those of a
    functional network do not name it.
    """
    names: dict[int, list[str]] = {id(v): [] for v in model.variables}
    for place, layer in _layers(model):
        own = layer.name, _keras.to_snake_case(type(layer).__name__)
        for variable in layer.variables:
            parts = variable.path.split("/")
            known = [i for i, part in enumerate(parts[:-1]) if part in own]
            inner = parts[known[0] + 1 :] if known else parts
            names[id(variable)].append("/".join([place, *inner]))
    for variable in model.variables:
        names[id(variable)].append(variable.path)
    return names


def _layers(model) -> Iterator[tuple[str, Any]]:
    """The layers that a model's attributes hold, with their places."""
    for name, value in vars(model).items():
        if name.startswith("_"):
            continue
        if not isinstance(value, (keras.Layer, list, tuple, dict)):
            continue
        for path, layer in keras.tree.flatten_with_path(value):
            if isinstance(layer, keras.Layer):
                yield "/".join(map(str, (name, *path))), layer
