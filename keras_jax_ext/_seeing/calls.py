"""Intercept calls of layers, stock ones too, without changing a class."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

# Keras calls the second one instead if a layer is quantized.
_METHODS = ("call", "quantized_call")

# A function `around(owner, method, args, kwargs)` that returns
# `method(*args, **kwargs)`.
Around: TypeAlias = Callable[[Any, Callable[..., Any], Any, Any], Any]
Undo: TypeAlias = Callable[[], object]


def intercept(layers: Sequence[Any], around: Around) -> Undo:
    """Let `around` make the calls of `layers` in this thread.

    Args:
        layers: Layers.
        around: Function that makes a call of a layer.

    Returns:
        A function of no arguments that undoes this.
    """
    thread = threading.get_ident()
    ends = [
        replace(
            layer, name, _within(layer, getattr(layer, name), around, thread)
        )
        for layer in layers
        for name in _METHODS
        if hasattr(layer, name)
    ]
    return lambda: [end() for end in ends]


class _Replacement:
    """A function in place of a method of one object."""

    def __init__(
        self, owner: Any, name: str, method: Callable[..., Any]
    ) -> None:
        self.before = vars(owner).get(name)
        self.plain = getattr(owner, name)
        self.method = method
        self.ended = False

    def __call__(self, *args, **kwargs):
        method = self.plain if self.ended else self.method
        return method(*args, **kwargs)


def replace(owner: Any, name: str, method: Callable[..., Any]) -> Undo:
    """Replace a method of one object.

    Args:
        owner: The object.
        name: The method's name.
        method: The function that is called instead.

    Returns:
        A function of no arguments that undoes this. Several replacements of
        one method can be undone in any order.
    """
    # Past Keras's `__setattr__`, which tracks what a layer is given, and
    # refuses state in one that is built.
    vars(owner)[name] = own = _Replacement(owner, name, method)

    def end():
        own.ended = True
        top = vars(owner).get(name)
        while isinstance(top, _Replacement) and top.ended:
            top = top.before
        if top is None:
            vars(owner).pop(name, None)
        else:
            vars(owner)[name] = top

    return end


def _within(layer, call, around, thread):
    def within(*args, **kwargs):
        if threading.get_ident() != thread:
            return call(*args, **kwargs)
        return around(layer, call, args, kwargs)

    return within
