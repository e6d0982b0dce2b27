"""Crossentropies of what softmax and sigmoid were given, as by TensorFlow.

Private: `keras.src.backend.nn`. Its losses see probabilities alone, cut at
1e-7, where a gradient is zero; Keras's backend of TensorFlow looks the logits
up. An argument of Keras's backend of JAX would take the place of this.
"""

import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras.src import backend

_SOURCES = ("softmax", "sigmoid")
# Each takes the logits of either, as `_keras_logits` of TensorFlow's tensors.
_LOSSES = (
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "binary_crossentropy",
)
# By the identity of an output: itself, what it was made of, and whether by an
# activation: a loss that is said to be of logits takes the logits of these.
_kept: dict[int, tuple[weakref.ref, Any, bool]] = {}
_BY_ACTIVATION = {
    getattr(keras.activations, name).__code__ for name in _SOURCES
}

_state = {"on": False}


def look_up(enabled: bool) -> None:
    """Look logits up from now on, or no more."""
    _state["on"] = enabled
    # Its place in Keras 3.16.
    nn = backend.nn if hasattr(backend, "nn") else backend.ops.nn
    if hasattr(nn.softmax, "keeps_logits"):
        return
    for name in _SOURCES:
        setattr(nn, name, _source(getattr(nn, name), name))
    for name in _LOSSES:
        setattr(nn, name, _loss(getattr(nn, name)))


def _source(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(x: Any, axis: Any = -1) -> Any:
        output = function(x) if name == "sigmoid" else function(x, axis=axis)
        if _state["on"] and _is_last(axis, x):
            # Through `keras.ops`.
            caller = sys._getframe(2).f_code
            _remember(output, x, caller in _BY_ACTIVATION)
        return output

    run.keeps_logits = True  # type: ignore[attr-defined]
    return run


def _is_last(axis: Any, x: Any) -> bool:
    return axis in (-1, getattr(x, "ndim", 0) - 1)


def _remember(output: Any, logits: Any, by_activation: bool) -> None:
    key = id(output)
    # The logits live as long as the output does.
    there = weakref.ref(output, lambda _: _kept.pop(key, None))
    _kept[key] = there, logits, by_activation


def _loss(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(
        target: Any, output: Any, from_logits: bool = False, **kwargs: Any
    ) -> Any:
        there, logits, sure = _kept.get(id(output), (None, None, False))
        of_it = _state["on"] and there is not None and there() is output
        wanted = sure or not from_logits
        if of_it and wanted and _is_last(kwargs.get("axis", -1), output):
            output, from_logits = logits, True
        return function(target, output, from_logits=from_logits, **kwargs)

    return run
