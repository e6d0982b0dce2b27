"""Parts of a structure, by key, index, field name or a path of them."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

Path = tuple[str | int, ...]


def path_of(on: str | int | Sequence[str | int] | None) -> Path:
    """Read `on=` as a tuple of keys and indices."""
    if on is None:
        return ()
    path = tuple(on) if isinstance(on, (list, tuple)) else (on,)
    for key in path:
        if not isinstance(key, (str, int)) or isinstance(key, bool):
            raise TypeError(
                "`on` is a key, an index or a list of them, that leads to a "
                f"part of `y_pred`. Received: on={on!r} (of type "
                f"{type(on).__name__})."
            )
    return path


def is_structure(value: Any) -> bool:
    """Whether `value` is a dict, a list, a tuple or a dataclass."""
    return isinstance(value, (Mapping, list, tuple)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def named(returned: Any, what: str, prefix: str = "") -> dict[str, Any]:
    """Flatten what a loss or metric returned into a dict of named parts.

    Args:
        returned: A tensor, or nested dicts of tensors.
        what: How messages call the loss or metric.
        prefix: What the names begin with; a lone tensor has it as its name.

    Raises:
        TypeError: If it returned anything else.
    """
    if isinstance(returned, Mapping) and returned:
        parts: dict[str, Any] = {}
        for key, value in returned.items():
            parts.update(named(value, what, f"{prefix}/{key}".lstrip("/")))
        return parts
    if returned is None or is_structure(returned):
        raise TypeError(
            f"{what} must return a tensor or a dict of named parts. Received: "
            f"{returned!r} (of type {type(returned).__name__}). Did you "
            "forget `return`?"
        )
    return {prefix: returned}


def pick(
    structure: Any, path: Path, what: str, *, shallow: bool = False
) -> Any:
    """Return the part of `structure` that `path` leads to.

    Args:
        structure: Nested dicts, lists, tuples, NamedTuples, dataclasses.
        path: Keys, field names and indices.
        what: How messages call the structure.
        shallow: Whether to stop at a tensor, and return it, where the path
            leads on.

    Raises:
        KeyError: If there is no such part; the message lists those there are.
    """
    for key in path:
        if shallow and not is_structure(structure):
            break
        entries = _entries(structure)
        if key not in entries:
            raise KeyError(
                f"`on` leads to no part of {what}. Received: on={path!r}, and "
                + (
                    f"{key!r} is not among {list(entries)}."
                    if entries
                    else f"{key!r} in one tensor, which has no parts."
                )
            )
        structure = entries[key]
    return structure


def _entries(structure):
    """The parts of one level, by every key that may name them."""
    if isinstance(structure, Mapping):
        return structure
    if not is_structure(structure):
        return {}
    if isinstance(structure, (list, tuple)):
        named = getattr(structure, "_fields", ())
        return {
            **dict(zip(named, structure, strict=False)),
            **dict(enumerate(structure)),
        }
    fields = [field.name for field in dataclasses.fields(structure)]
    return {name: getattr(structure, name) for name in fields}


def count_rows(given: Mapping[str, Any]) -> int:
    """The number of samples in a batch, or 1 if nothing has a shape.

    Args:
        given: The values of a step, by name: `x`, `y_pred`...
    """
    for name in ("x", "y_pred"):
        for leaf in keras.tree.flatten(given.get(name)):
            if getattr(leaf, "shape", None):
                return leaf.shape[0]
    return 1


def alone(given: Any, y_pred: Any, names: Iterable[str] | None) -> Any:
    """What a dict gives the one output: `{"out": y}` is `y`.

    Args:
        given: Labels or weights.
        y_pred: Structure of outputs.
        names: The names of the outputs, if there are any.
    """
    if keras.tree.is_nested(y_pred) or not isinstance(given, Mapping):
        return given
    names = list(names or ())
    return given[names[0]] if names and list(given) == names else given


def listed(given: Any, y_pred: Any, names: Iterable[str] | None) -> Any:
    """What a dict gives each of several outputs, in their order.

    Args:
        given: Weights.
        y_pred: Structure of outputs.
        names: The names of the outputs, if there are any.
    """
    names = list(names or ())
    several = isinstance(y_pred, (list, tuple)) and len(y_pred) == len(names)
    if not several or not isinstance(given, Mapping):
        return given
    if not set(given) <= set(names):
        return given
    return [given.get(name) for name in names]


def spread(weights: Any, values: Any, what: str) -> Any:
    """Repeat weights of shape `(batch, ...)` over the axes they lack.

    Args:
        weights: The weights.
        values: Tensor that they are to weigh.
        what: How messages call the loss or metric that it comes from.

    Raises:
        ValueError: If the shapes do not fit, or there are several arrays.
    """
    if is_structure(weights):
        raise ValueError(
            "A loss or metric over several outputs takes one array of weights. "
            f"Received: sample_weight of type {type(weights).__name__} for "
            f"{what}. Choose a part with `on`, or ask for `sample_weight` by "
            "name."
        )
    weights = keras.ops.convert_to_tensor(weights, dtype=values.dtype)
    shape = tuple(weights.shape)
    while len(shape) > len(values.shape) and shape[-1] == 1:
        shape = shape[:-1]
    shape += (1,) * (len(values.shape) - len(shape))
    fits = len(shape) == len(values.shape) and all(
        w in (1, v) for w, v in zip(shape, values.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            "Sample weights must have the leading axes of the values. "
            f"Received: sample_weight of shape {tuple(weights.shape)} and "
            f"values of shape {tuple(values.shape)} from {what}."
        )
    return keras.ops.broadcast_to(
        keras.ops.reshape(weights, shape), values.shape
    )
