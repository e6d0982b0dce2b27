"""Constructor arguments of a declaration: allowed, and the same as before."""

import functools
import inspect
import numbers
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._xla import tracing

import jax
import keras
import numpy as np


class _Threads(threading.local):
    """The pairs that one thread is comparing."""

    def __init__(self):
        self.pairs: set[tuple[int, int]] = set()


_thread = _Threads()


class DeclarationError(ValueError):
    """A rule of inline declaration is broken; the message says which."""


def check_constants(
    owner: keras.Layer,
    cls: type,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> None:
    """Refuse values of a trace as constructor arguments of a layer.

    The layer is made once, and such a value differs from trace to trace.
    """
    functional = issubclass(cls, keras.Model)
    for value in jax.tree.leaves((args, kwargs), is_leaf=_is_symbolic):
        if _is_symbolic(value) and not (
            functional and isinstance(value, keras.KerasTensor)
        ):
            raise DeclarationError(
                f"A layer declared in `call` is made once, from plain values, "
                "and a tensor or an unknown dimension has another value each "
                f"time. Received: {cls.__name__}(...) in the `call` of "
                f"{type(owner).__name__}, with {value!r} (of type "
                f"{type(value).__name__}). Give the constructor a number that "
                "is known beforehand, and pass the tensor to the layer's call."
            )


def _is_symbolic(value):
    return isinstance(value, keras.KerasTensor) or tracing.is_symbolic(value)


def same_arguments(
    cls: type,
    left: tuple[Sequence[Any], Mapping[str, Any]],
    right: tuple[Sequence[Any], Mapping[str, Any]],
) -> bool:
    """Whether two `(args, kwargs)` of `cls` mean the same call."""
    if same(left, right):
        return True
    try:
        constructor: Any = cls.__init__  # type: ignore[misc]
        signature = inspect.signature(constructor)
        bound = [signature.bind(None, *a, **k) for a, k in (left, right)]
    except (TypeError, ValueError):
        return False
    for arguments in bound:
        arguments.apply_defaults()
    return same(bound[0].arguments, bound[1].arguments)


def same(a: Any, b: Any) -> bool:
    """Whether two constructor arguments, written anew at each call, are equal.

    Python's `==` calls two lambdas of one line unequal, and two initializers
    with the same configuration; for arrays it gives no single answer.
    """
    if a is b:
        return True
    if isinstance(a, numbers.Number) and isinstance(b, numbers.Number):
        return a == b
    if type(a) is not type(b):
        return False
    pair = id(a), id(b)
    if pair in _thread.pairs:
        return True  # within its own comparison: the other parts decide
    _thread.pairs.add(pair)
    try:
        return _same_kind(a, b)
    finally:
        _thread.pairs.discard(pair)


def _same_kind(a, b):
    for kind, equal in _EQUALITIES:
        if isinstance(a, kind):
            return equal(a, b)
    if type(a).__eq__ is not object.__eq__:
        return bool(a == b)
    if hasattr(a, "get_config"):
        return same(_config(a), _config(b))
    return hasattr(a, "__dict__") and same(vars(a), vars(b))


def _same_items(a, b):
    return len(a) == len(b) and all(map(same, a, b))


def _same_entries(a, b):
    return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)


def _same_functions(a, b):
    cells = [[*map(_contents, f.__closure__ or ())] for f in (a, b)]
    return (
        a.__code__ is b.__code__
        and same(a.__defaults__, b.__defaults__)
        and same(a.__kwdefaults__, b.__kwdefaults__)
        and same(*cells)
    )


def _contents(cell):
    try:
        return cell.cell_contents
    except ValueError:  # the name has no value yet
        return None


def _same_partials(a, b):
    return same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))


def _same_tensors(a, b):
    return a.shape == b.shape and a.dtype == b.dtype


def _config(value):
    config = value.get_config()
    if isinstance(value, keras.Layer):
        config = {k: v for k, v in config.items() if k != "name"}
    return config


# How two values of a kind compare. The first kind that fits is taken.
_EQUALITIES: tuple[tuple[Any, Callable[[Any, Any], bool]], ...] = (
    (dict, _same_entries),
    ((list, tuple), _same_items),
    ((np.ndarray, jax.Array), np.array_equal),
    (types.FunctionType, _same_functions),
    (functools.partial, _same_partials),
    (keras.KerasTensor, _same_tensors),
)


def check_weight(
    owner: keras.Layer,
    variable: keras.Variable,
    spec: Mapping[str, Any],
    line: str,
) -> None:
    """Refuse another shape or dtype for a weight that was found by its name.

    Args:
        owner: The layer whose `call` asks for the weight.
        variable: The weight that it has.
        spec: What `call` asks for; `shape` and `dtype` are compared.
        line: Where it asks, as `file:line`.

    Raises:
        DeclarationError: If they differ.
    """
    shape = spec.get("shape")
    dtype = spec.get("dtype")
    asked = {}
    if shape is not None:
        asked["shape"] = (tuple(np.atleast_1d(shape)), tuple(variable.shape))
    if dtype is not None:
        # Not `variable.dtype`, which mixed precision changes within `call`.
        asked["dtype"] = (
            keras.backend.standardize_dtype(dtype),
            _keras.stored_dtype(variable),
        )
    for what, (new, old) in asked.items():
        if new != old:
            raise DeclarationError(
                f"Weight {variable.name!r} of {type(owner).__name__} is made "
                f"once, and its {what} cannot change. Received: {what}={new} "
                f"at {line}, after {what}={old}. Give the other weight a name "
                "of its own, with `name=`."
            )
