"""Functions around the train step of one model, put in and taken out again."""

import weakref
from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._seeing import calls

import keras

_ATTRIBUTE = "_step_patches"  # of a model, holds its `Patches`


class Patches:
    """Functions around the methods that compute a train step.

    The methods are replaced in the objects. They hold the functions weakly:
    a training that fails does not say that it ended, and its callback must
    not live on.

    Args:
        model: The model.
        call: Bound method around each call of a layer, as in
            `calls.intercept`.
        train_step: Bound method around `model.train_step`.
        stateless_apply: Bound method around that of the model's optimizer.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        call: calls.Around,
        train_step: calls.Around,
        stateless_apply: calls.Around,
    ) -> None:
        self.model = model
        # Each `fit` makes a new one.
        self.history = getattr(model, "history", None)
        layers = [model, *_keras.sublayers(model)]
        self._undo = [
            calls.intercept(layers, _weak(call)),
            _surround(model, "train_step", _weak(train_step)),
        ]
        if model.optimizer is not None:
            apply = _weak(stateless_apply)
            self._undo.append(
                _surround(model.optimizer, "stateless_apply", apply)
            )
        vars(model)[_ATTRIBUTE] = self
        make = _ending_stale(model, model.make_train_function)
        self._undo.append(calls.replace(model, "make_train_function", make))
        model.train_function = None  # compiled without the functions

    def end(self) -> None:
        """Undo the patches. A second call does nothing."""
        for undo in self._undo:
            undo()
        if vars(self.model).get(_ATTRIBUTE) is self:
            del vars(self.model)[_ATTRIBUTE]
            self.model.train_function = None  # compiled with the functions


def is_patched(model: keras.Model) -> bool:
    """Whether a model has patches."""
    return _ATTRIBUTE in vars(model)


def end_stale(model: Any) -> None:
    """Undo the patches of an earlier training, which failed."""
    patches = vars(model).get(_ATTRIBUTE)
    history = getattr(model, "history", None)
    if patches is not None and patches.history is not history:
        patches.end()


def _ending_stale(model, make):
    """`make_train_function` that first undoes the patches of a failed `fit`.

    A `fit` without our callback calls nothing else of ours.
    """
    reference = weakref.ref(model)

    def made(*args, **kwargs):
        end_stale(reference())
        return make(*args, **kwargs)

    return made


def _surround(owner: Any, name: str, around: calls.Around) -> calls.Undo:
    """Let `around` make the calls of a method of one object."""
    method = getattr(owner, name)
    return calls.replace(
        owner, name, lambda *args, **kw: around(owner, method, args, kw)
    )


def _weak(around: Callable[..., Any]) -> calls.Around:
    """Hold a bound method weakly; without its object, the call is plain."""
    reference = weakref.WeakMethod(around)

    def weak(owner, call, args, kwargs):
        alive = reference()
        if alive is None:
            return call(*args, **kwargs)
        return alive(owner, call, args, kwargs)

    return weak
