"""Whether a layer trains: the values that a call hands to its layers."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

from keras_jax_ext._keras.declaring import (
    get_global_attribute,
    running_scope,
    set_global_attribute,
)
from keras_jax_ext._keras.mixing import Mixin

# Private, Keras's register for the context of the running call.
# Replaced by: nothing public.
_REGISTER = "current_call_ctx"


class CallContext:
    """The values (`training`...) that a running call hands to its layers.

    It takes the place of Keras's own, which holds one value for the whole tree
    of calls: a layer called with `training=False` also switches off the layers
    that are called after it. Here each call hands its values to the layers
    within it alone.
    """

    # Keras asks which layer ends the context. Ours ends where it began.
    entry_layer = None

    def __init__(self, **values: Any) -> None:
        # The values of the call that was prepared last.
        self._latest = values
        # The values handed to the layers of a call, by its name scope.
        self._within: dict[Any, dict[str, Any]] = {}

    def get_value(self, name: str, default: Any = None) -> Any:
        """The value that the layer around the next call was given."""
        return self._inherited().get(name, default)

    def set_value(self, name: str, value: Any) -> None:
        """Note a value that the next call is given."""
        self._inherited()
        self._latest = {**self._latest, name: value}

    def _inherited(self):
        # The first layer that is called in a scope sees it first. The values
        # noted last before that are those of the layer around it.
        return self._within.setdefault(running_scope(), self._latest)


def was_called(layer: Any) -> bool:
    """Whether a layer was ever called, abstractly or not."""
    return layer._called


def has_call(layer: Any) -> bool:
    """Whether a user wrote the `call` of a layer, and not Keras."""
    return not type(layer).call.__module__.startswith("keras.")


@contextlib.contextmanager
def entered(layer: Any) -> Iterator[None]:
    """Begin a context of ours for a call, unless a call is running."""
    if get_global_attribute(_REGISTER) is not None:
        yield
        return
    # As Keras does where it begins a context.
    layer._check_super_called()
    layer._clear_losses()
    with _context(CallContext()):
        yield


def modes_by_name(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call such as `model(x, True)`, as in Keras 2.

    Keras 3 takes tensors alone by position: a boolean and what is behind it go
    by the names that they have in `call`.
    """
    first = next((i for i, a in enumerate(args) if isinstance(a, bool)), 0)
    if not first:
        return args, kwargs
    names = [
        name
        for name, p in inspect.signature(layer.call).parameters.items()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    named = dict(zip(names[first:], args[first:], strict=False))
    if len(args) > len(names) or named.keys() & kwargs:
        return args, kwargs
    return args[:first], {**kwargs, **named}


def in_mode(training: bool) -> contextlib.AbstractContextManager[None]:
    """Within the block, the layers that are called train, or do not."""
    return _context(CallContext(training=training))


@contextlib.contextmanager
def _context(context):
    before = get_global_attribute(_REGISTER)
    set_global_attribute(_REGISTER, context)
    try:
        yield
    finally:
        set_global_attribute(_REGISTER, before)


class TrainingMode(Mixin):
    """Mixin: a model is called in the mode that its trainer is in.

    Keras's JAX trainer reaches `call` past `__call__`, so that the layers used
    in `call` learn nothing of `training`, and Dropout or BatchNormalization
    run as in inference unless `call` hands it on to each of them.
    """

    @property
    def _call_has_training_arg(self):
        # Keras's trainers give `training` to models that say they take it.
        return True

    @_call_has_training_arg.setter
    def _call_has_training_arg(self, value):
        """Keras sets it from the signature of `call`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with entered(self):
            return super().__call__(*args, **kwargs)

    def stateless_call(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.stateless_call`, with `training` as in a call.

        Args:
            trainable_variables: List of arrays.
            non_trainable_variables: List of arrays.
            *args: Arguments of `call`.
            return_losses: Boolean, whether to return the losses of `call`.
            **kwargs: Arguments of `call`. `training` may be among them also
                where `call` does not name it.

        Returns:
            Tuple of the outputs, the non-trainable variables and, if asked
            for, the losses.
        """
        self._check_super_called()
        given, kwargs = _resolve(self, args, kwargs)
        # The losses of an earlier call are forgotten, as `__call__` does.
        if get_global_attribute(_REGISTER) is None:
            self._clear_losses()
        with _context(CallContext(**given)):
            return super().stateless_call(
                trainable_variables,
                non_trainable_variables,
                *args,
                return_losses=return_losses,
                **kwargs,
            )


def _resolve(layer, args, kwargs):
    """The context of a call, and its arguments, as `Layer.__call__` has them.

    In the order of precedence: what is passed, what the call around it was
    given, the default of `call`.
    """
    signature = inspect.signature(layer.call)
    outer = get_global_attribute(_REGISTER)
    given: dict[str, Any] = {}
    # Private, `training` and what a user registered beside it.
    for name in layer._call_context_args:
        if name not in signature.parameters:
            inherited = outer.get_value(name) if outer is not None else None
            given[name] = kwargs.pop(name, inherited)
            continue
        bound = signature.bind_partial(*args, **kwargs)
        passed = name in bound.arguments
        if not passed and outer is not None:
            inherited = outer.get_value(name)
            if inherited is not None:
                kwargs[name] = inherited
                bound = signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        given[name] = bound.arguments.get(name)
    return given, kwargs
