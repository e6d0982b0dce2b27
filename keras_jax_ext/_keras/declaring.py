"""Scopes, names and tracked state of Keras's layers."""

import collections
import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras

# ruff: isort: off
# Per-thread registers: name scopes, call context, numbers of automatic names,
# variables that wait for their first value. Replaced by: nothing public.
from keras.src.backend.common.global_state import (
    get_global_attribute,
    set_global_attribute,
)

# Whether variables are made or only traced, and in which scope. The classes of
# scopes are public, these questions are not.
from keras.src.backend.common.stateless_scope import (
    get_stateless_scope,
    in_stateless_scope,
)
from keras.src.backend.common.symbolic_scope import (
    in_symbolic_scope,
)

# A mask travels as an attribute of its tensor. Replaced by: nothing public.
from keras.src.backend.common.masking import (
    get_keras_mask as get_keras_mask,
    set_keras_mask as set_keras_mask,
)

# `keras.Model(inputs, outputs)` makes a `Functional`. A subclass of ours is
# registered under the same name, by which a file finds it.
from keras.src.models.functional import (
    Functional as Functional,
)
from keras.src.models.model import (
    functional_init_arguments as functional_init_arguments,
)
from keras.src.saving import object_registration

# Marks a method as not written by the user, which Keras asks about `build`.
from keras.src.utils.python_utils import default as default

# Keras's own spelling of a class as a name (`conv2d`, not `conv2_d`).
from keras.src.utils.naming import (
    to_snake_case as to_snake_case,
)
# ruff: isort: on


def in_trace() -> bool:
    """Whether JAX traces here, so that new values are only symbols."""
    return isinstance(jnp.add(0, 0), jax.core.Tracer)


def current_scope() -> Any:
    """The stateless scope that holds the values of variables, or `None`."""
    return get_stateless_scope()


def in_compiled_step() -> bool:
    """Whether a trace takes the values of variables from outside."""
    return in_stateless_scope() and not in_symbolic_scope() and in_trace()


def is_eager() -> bool:
    """Whether variables made here get their values at once."""
    return not in_stateless_scope() and not in_trace()


def running_scope() -> Any:
    """The innermost name scope of a layer: it builds or is called.

    Those that a user opens with `keras.name_scope` belong to no layer.
    """
    scopes = get_global_attribute("name_scope_stack") or ()
    return next((s for s in reversed(scopes) if s.caller is not None), None)


def running_layer() -> Any:
    """The layer that builds or is called, or `None`."""
    scope = running_scope()
    return scope and scope.caller


def uninitialized_variables() -> list[keras.Variable]:
    """Variables made under a stateless scope that have no value yet."""
    return list(get_global_attribute("uninitialized_variables") or ())


@contextlib.contextmanager
def _swapped(name, value):
    """Replace one of Keras's per-thread registers for a while."""
    before = get_global_attribute(name)
    set_global_attribute(name, value)
    try:
        yield
    finally:
        set_global_attribute(name, before)


def fresh_names(counts: Any = None) -> contextlib.AbstractContextManager[None]:
    """Count automatic names from zero, so that they repeat exactly.

    Args:
        counts: Dict to go on with. Defaults to `None`, a new one.
    """
    fresh: Any = collections.defaultdict(int)
    return _swapped("object_name_uids", fresh if counts is None else counts)


def no_call_context() -> contextlib.AbstractContextManager[None]:
    """Hide the enclosing layer call, whose `training` a trace would change."""
    return _swapped("current_call_ctx", None)


def sublayers(layer: Any, recursive: bool = True) -> list[Any]:
    """The layers that `layer` tracks, itself left out."""
    return layer._flatten_layers(include_self=False, recursive=recursive)


def has_value(variable: Any) -> bool:
    """Whether a variable has its value, which a stateless scope delays."""
    return variable._value is not None


def stored_dtype(variable: Any) -> Any:
    """The dtype a variable is kept in, also under mixed precision."""
    return variable._dtype


def own_variables(layer: Any) -> list[keras.Variable]:
    """The variables that `layer` itself holds, not its sublayers."""
    return layer._trainable_variables + layer._non_trainable_variables


def unlock(layer: Any) -> None:
    """Let a built layer track more state; Keras locks it in `build`."""
    layer._tracker.unlock()


def track(layer: Any, sublayer: Any) -> None:
    """Let `layer` track `sublayer` without an attribute of its own."""
    layer._tracker.track(sublayer)


def lock(layer: Any) -> None:
    """Close what `unlock` opened, with Keras's own message."""
    layer._lock_state()


def snapshot(layer: Any) -> Callable[[], None]:
    """Remember the attributes and the tracked state of a layer.

    Returns:
        A function that restores them.
    """
    attributes = dict(vars(layer))
    tracker = layer._tracker
    locked = tracker.locked
    tracked = {name: list(store) for name, (_, store) in tracker.config.items()}

    def restore():
        vars(layer).clear()
        vars(layer).update(attributes)
        tracker.locked = locked
        for name, (_, store) in tracker.config.items():
            store[:] = tracked[name]
            tracker.stored_ids[name] = {id(item) for item in store}

    return restore


class PathName(keras.Layer):
    """Mixin: a model's variable paths begin with `_path_name()`, not its name.

    Keras numbers automatic names over the whole process, so the second model
    of a class would have other paths than the first.
    """

    def _path_name(self) -> str:
        raise NotImplementedError

    def _open_name_scope(self):
        scope = super()._open_name_scope()
        scope.name = self._path_name()
        return scope

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """As `keras.Layer.add_weight`, which opens a scope of `self.name`."""
        variable = super().add_weight(*args, **kwargs)
        parent = f"{self._parent_path}/" if self._parent_path else ""
        variable._path = f"{parent}{self._path_name()}/{variable.name}"
        return variable


def register_like(cls: Any, original: type) -> None:
    """Save and pickle instances of `cls` under the name of `original`."""
    # Private, unpickles a model of any class. Bound to `cls`, which is in no
    # module, it could not be pickled. Replaced by: a public function.
    cls._unpickle_model = staticmethod(keras.Model._unpickle_model)
    names = object_registration.GLOBAL_CUSTOM_NAMES
    if original in names:
        names[cls] = names[original]
