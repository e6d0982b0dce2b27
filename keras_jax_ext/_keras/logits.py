"""Crossentropies of what softmax and sigmoid were given, as by TensorFlow.

Private: `keras.src.backend.nn`. Its losses see probabilities alone, cut at
1e-7, where a gradient is zero; Keras's backend of TensorFlow looks the logits
up. An argument of Keras's backend of JAX would take the place of this.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

from keras.src import backend

_SOURCES = ("softmax", "sigmoid")
_LOSSES = {
    "categorical_crossentropy": "softmax",
    "sparse_categorical_crossentropy": "softmax",
    "binary_crossentropy": "sigmoid",
}
# By the identity of an output: itself, what made it, and of what.
_kept: dict[int, tuple[weakref.ref, str, Any]] = {}


_state = {"on": False}


def look_up(enabled: bool) -> None:
    """Look logits up from now on, or no more."""
    _state["on"] = enabled
    nn = backend.nn
    if hasattr(nn.softmax, "keeps_logits"):
        return
    for name in _SOURCES:
        setattr(nn, name, _source(getattr(nn, name), name))
    for name, source in _LOSSES.items():
        setattr(nn, name, _loss(getattr(nn, name), source))


def _source(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(x: Any, axis: Any = -1) -> Any:
        output = function(x) if name == "sigmoid" else function(x, axis=axis)
        if _state["on"] and axis in (-1, getattr(x, "ndim", 0) - 1):
            _remember(output, name, x)
        return output

    run.keeps_logits = True  # type: ignore[attr-defined]
    return run


def _remember(output: Any, name: str, logits: Any) -> None:
    key = id(output)
    # The logits live as long as the output does.
    there = weakref.ref(output, lambda _: _kept.pop(key, None))
    _kept[key] = there, name, logits


def _loss(function: Callable[..., Any], source: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(
        target: Any, output: Any, from_logits: bool = False, **kwargs: Any
    ) -> Any:
        there, name, logits = _kept.get(id(output), (None, "", None))
        of_it = (
            _state["on"]
            and there is not None
            and there() is output
            and name == source
        )
        if of_it and not from_logits and kwargs.get("axis", -1) == -1:
            output, from_logits = logits, True
        return function(target, output, from_logits=from_logits, **kwargs)

    return run
