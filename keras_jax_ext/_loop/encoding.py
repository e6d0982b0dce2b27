"""States of a user's own objects, as JSON and named arrays hold them."""

import json
from typing import Any

import jax
import numpy as np

# What JSON holds as it is, by class: a subclass may be an array of NumPy's.
_SCALARS = {bool, int, float, str, type(None)}


def is_plain(value: Any) -> bool:
    """Whether a value is of numbers, strings, arrays, lists and dicts.

    Args:
        value: Anything.
    """
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) for k in value) and all(
            map(is_plain, value.values())
        )
    plain = bool | int | float | str | np.ndarray | np.generic | jax.Array
    return value is None or isinstance(value, plain)


def encoded(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    """A value as JSON holds it.

    Args:
        value: Structure of numbers, strings, bytes and arrays.
        path: String, by which its arrays are named.
        arrays: Dict, to which they are added: copies, where somebody may
            write into them.
    """
    if isinstance(value, list) and all(type(v) in _SCALARS for v in value):
        return list(value)
    if isinstance(value, list | tuple):
        items = [encoded(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {
            "dict": {
                name: encoded(item, f"{path}/{name}", arrays)
                for name, item in value.items()
            }
        }
    if isinstance(value, bytes):
        arrays[path] = np.frombuffer(value, "uint8")
        return {"bytes": path}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        writable = isinstance(value, np.ndarray)
        arrays[path] = value.copy() if writable else value
        return {"array": path, "scalar": isinstance(value, np.generic)}
    json.dumps(value)  # of a user's own state
    return value


def decoded(value: Any, arrays: dict[str, Any]) -> Any:
    """The value of which `encoded` made what JSON holds.

    Args:
        value: What JSON held.
        arrays: Arrays by name.
    """
    if isinstance(value, list):
        return [decoded(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(decoded(item, arrays) for item in value["tuple"])
    if "dict" in value:
        return {k: decoded(v, arrays) for k, v in value["dict"].items()}
    if "bytes" in value:
        return np.asarray(arrays[value["bytes"]]).tobytes()
    array = arrays[value["array"]]
    return array[()] if value["scalar"] else np.array(array)
