"""Crossentropies of what softmax and sigmoid were given, as by TensorFlow.

Private: `keras.src.backend.nn`. Its losses see probabilities alone, cut at
1e-7, where a gradient is zero; Keras's backend of TensorFlow looks the logits
up. An argument of Keras's backend of JAX would take the place of this.

Outputs that no activation made are not probabilities, as often as not (a last
layer without one): of those, too, the losses are as Keras 2 computed them.
"""

import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras.src import backend

_SOURCES = ("softmax", "sigmoid")
# Each takes the logits of any activation, as `_keras_logits` of TensorFlow's
# tensors, and of an operation, which such tensors have not, if it is its own.
_LOSSES = {
    "categorical_crossentropy": "softmax",
    "sparse_categorical_crossentropy": "softmax",
    "binary_crossentropy": "sigmoid",
}
# By the identity of an output: itself, what it was made of, and by which
# operation, or `_ACTIVATION`: a loss that is said to be of logits takes the
# logits of these, too.
_kept: dict[int, tuple[weakref.ref, Any, str]] = {}
_ACTIVATION = "activation"
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
        setattr(nn, name, _loss(getattr(nn, name), name))


def _source(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(x: Any, axis: Any = -1) -> Any:
        output = function(x) if name == "sigmoid" else function(x, axis=axis)
        if _state["on"] and _is_last(axis, x):
            # Through `keras.ops`.
            caller = sys._getframe(2).f_code
            by = _ACTIVATION if caller in _BY_ACTIVATION else name
            _remember(output, x, by)
        return output

    run.keeps_logits = True  # type: ignore[attr-defined]
    return run


def _is_last(axis: Any, x: Any) -> bool:
    return axis in (-1, getattr(x, "ndim", 0) - 1)


def _remember(output: Any, logits: Any, by: str) -> None:
    key = id(output)
    # The logits live as long as the output does.
    there = weakref.ref(output, lambda _: _kept.pop(key, None))
    _kept[key] = there, logits, by


def _loss(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(
        target: Any, output: Any, from_logits: bool = False, **kwargs: Any
    ) -> Any:
        there, logits, by = _kept.get(id(output), (None, None, ""))
        of_it = _state["on"] and there is not None and there() is output
        own = by == _LOSSES[name] and not from_logits
        wanted = own or by == _ACTIVATION
        if of_it and wanted and _is_last(kwargs.get("axis", -1), output):
            output, from_logits = logits, True
        elif _state["on"] and not from_logits:
            if name == "sparse_categorical_crossentropy":
                output, from_logits = _log(output), True
            elif name == "binary_crossentropy":
                return _binary(function, target, output)
        return function(target, output, from_logits=from_logits, **kwargs)

    return run


def _log(output: Any) -> Any:
    """Logits of Keras 2: Keras 3 divides by the sum first, and cuts then."""
    epsilon = keras.config.epsilon()
    return keras.ops.log(keras.ops.clip(output, epsilon, 1 - epsilon))


def _binary(function: Callable[..., Any], target: Any, output: Any) -> Any:
    """Keras 2 added epsilon to what was cut: at most 15.42, and not 16.12."""
    loss = function(target, output)  # it checks the shapes
    epsilon = keras.config.epsilon()
    target = keras.ops.cast(target, loss.dtype)
    cut = keras.ops.clip(output, epsilon, 1 - epsilon)
    return -(
        target * keras.ops.log(cut + epsilon)
        + (1 - target) * keras.ops.log(1 - cut + epsilon)
    )
