"""Parts of a structure, by key, index, field name or a path of them."""

import dataclasses
from collections.abc import Mapping

import keras


def path_of(on):
    """`on=` as a tuple of keys and indices."""
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


def is_structure(value):
    """Whether `value` holds others: a dict, a list, a tuple, a dataclass."""
    return isinstance(value, (Mapping, list, tuple)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def named(returned, what, prefix=""):
    """What a loss or metric returned, as a flat dict of its named parts."""
    if isinstance(returned, Mapping) and returned:
        parts = {}
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


def pick(structure, path, what, *, shallow=False):
    """The part of `structure` that `path` leads to.

    Args:
        structure: Nested dicts, lists, tuples, NamedTuples, dataclasses.
        path: Tuple of keys, field names and indices.
        what: String, how messages call the structure.
        shallow: Boolean. If `True`, a leaf met early is the answer.

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


def spread(weights, values, what):
    """Weights of shape `(batch, ...)`, repeated over the axes they lack."""
    if is_structure(weights):
        raise ValueError(
            "What is over several outputs takes one array of weights. "
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
