"""The rules of inline declaration: names, sameness, lateness.

One running `call` is a `Frame`. A constructor that is used in it asks the
frame, which makes the layer the first time and finds it by its name ever
after.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name.naming import free_name, numbered
from keras_jax_ext._inline.arguments import (
    DeclarationError,
    check_constants,
    check_weight,
    same_arguments,
)
from keras_jax_ext._inline.declarations import (
    Child,
    Declarations,
    declarations,
)
from keras_jax_ext._xla.tracing import running_loops

import keras

# Frames of these packages are never "the user's line".
_LIBRARIES = {"keras_jax_ext", "keras", "jax", "flax", "contextlib", "optree"}


def user_line() -> str:
    """`file:line` of the innermost frame that is the user's own code."""
    frame: FrameType = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _LIBRARIES:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Frame:
    """One running `call`: the names it has used so far."""

    def __init__(
        self,
        owner: keras.Layer,
        function: Callable,
        entry: CodeType,
        build: Any,
    ) -> None:
        """Begin a call.

        Args:
            owner: The layer that is called.
            function: Its `call`, as the user wrote it.
            entry: Code of the function that wraps every `call`.
            build: The build that is going on, or `None`.
        """
        self.owner = owner
        self.functions = [function]  # more than one under super().call()
        self.entry = entry
        self.building = build is not None and not self.declared.complete
        self.running = _keras.running_layer()
        self.used: set[str] = set()
        self.late: list[str] = []
        # By the id of a loop's frame: that frame, the frame of its latest
        # trace, and the names that were used before the loop.
        self.loops: dict[int, tuple[Any, Any, frozenset[str]]] = {}
        self.waiting = len(_keras.uninitialized_variables())

    @property
    def declared(self) -> Declarations:
        """The declarations of the layer that is called."""
        return declarations(self.owner)

    def child(
        self,
        cls: type,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        construct: Callable[..., keras.Layer],
    ) -> keras.Layer:
        """Make or find the layer that `cls(*args, **kwargs)` means here."""
        check_constants(self.owner, cls, args, kwargs)
        line = user_line()
        self._forget_repeated_traces()
        name = self._child_name(cls, kwargs.get("name"), line)
        asked = Child(cls, args, kwargs, line)
        found = self.declared.children.get(name)
        if found is None:
            return self._add_child(name, asked, construct)
        self._check_same(name, found, asked)
        return found.layer

    def _child_name(self, cls, explicit, line):
        """The explicit name or the class's, numbered by order of execution."""
        base = explicit or _keras.to_snake_case(cls.__name__)
        for name in numbered(base):
            if name in self.used:
                continue
            if name in self.declared.children or not self._taken(name):
                self.used.add(name)
                return name
            if explicit:
                raise DeclarationError(
                    f"A layer declared in `call` becomes the attribute of its "
                    f"name, and {type(self.owner).__name__} has another "
                    f"attribute of that name. Received: name={name!r} at "
                    f"{line}. Choose another name."
                )
        raise AssertionError("unreachable")

    def _forget_repeated_traces(self):
        """Free the names of a loop's body, which is traced once more."""
        for loop, trace in reversed(list(running_loops(self.entry))):
            # The frames are kept, so that no other frame gets their ids.
            _, latest, used = self.loops.get(
                id(loop), (None, trace, frozenset(self.used))
            )
            if latest is not trace:
                self.used = set(used)
            self.loops[id(loop)] = loop, trace, used

    def _taken(self, name):
        # Not `hasattr`, which would run the owner's properties.
        return name in vars(self.owner) or any(
            name in vars(base) for base in type(self.owner).__mro__
        )

    def _add_child(self, name, asked, construct):
        kwargs = asked.kwargs
        if "name" in kwargs:
            kwargs = {**kwargs, "name": name}
        # Random state of the layer is made here, under the layer's name.
        with _keras.fresh_names(), keras.name_scope(name):
            layer = construct(*asked.args, **kwargs)
        layer.name = name
        asked.layer = layer
        self.declared.children[name] = asked
        if not self.building:
            self.late.append(name)
        return layer

    def _check_same(self, name, found, asked):
        if found.line != asked.line:
            raise DeclarationError(
                f"One name cannot mean two lines of `call`, and here a "
                f"condition decides which it means. Received: {name!r} as "
                f"{found.written()} and as {asked.written()}. Give them "
                "different names, or declare the layer once and use it twice."
            )
        if found.cls is not asked.cls or not same_arguments(
            found.cls, (found.args, found.kwargs), (asked.args, asked.kwargs)
        ):
            raise DeclarationError(
                f"Layer {name!r} of {type(self.owner).__name__} is made once, "
                "and its class and constructor arguments cannot change. "
                f"Received: {asked.written()} after {found.written()}. "
                "Give the other layer a name of its own, with `name=`."
            )

    def weight(
        self,
        name: str | None,
        spec: Mapping[str, Any],
        make: Callable[[str], keras.Variable],
    ) -> keras.Variable:
        """Make or find the variable that `add_weight` in `call` means.

        Args:
            name: The name that was asked for, or `None`.
            spec: The `shape` and the `dtype` that were asked for, if any.
            make: Function of a name, which makes the variable.
        """
        if name is None:
            name = free_name("weight", self.used)
            self.used.add(name)
        found = self.declared.weights.get(name)
        if found is None:
            self._check_new_weight(name)
            self.declared.weights[name] = found = make(name)
        check_weight(self.owner, found, spec, user_line())
        return found

    def _check_new_weight(self, name):
        owner = type(self.owner).__name__
        if not self.building:
            raise late_error(
                self.owner, f"Weight {name!r}", f"Received: {user_line()}"
            )
        if any(v.name == name for v in _keras.own_variables(self.owner)):
            raise DeclarationError(
                f"`add_weight` in `call` makes or finds a weight by its name, "
                f"and {owner} has a weight of that name from `__init__` or "
                f"`build`. Received: name={name!r} at {user_line()}. Use the "
                "attribute that holds it, or choose another name."
            )

    def close(self) -> None:
        """End the call: refuse weights that nothing could keep or train."""
        self._check_late()
        if self.building or not _keras.in_compiled_step():
            return
        made = _keras.uninitialized_variables()[self.waiting :]
        if made:
            raise DeclarationError(
                f"Weights made inside a compiled step would be made anew at "
                f"each trace and never trained. Received: {made[0].path!r} in "
                f"the `call` of {type(self.owner).__name__}. Declare their "
                "layer inline from keras_jax_ext.layers, or make it in "
                "`__init__`, and call the model once before training."
            )

    def _check_late(self):
        """Late declarations are allowed if they hold no variables."""
        for name in self.late:
            child = self.declared.children[name]
            if child.layer.variables:
                del self.declared.children[name]
                raise late_error(
                    self.owner,
                    f"Layer {name!r}",
                    f"Received: {child.written()}",
                )


def late_error(
    owner: keras.Layer, what: str, received: str
) -> DeclarationError:
    """The error for state that is first declared after the first use.

    Args:
        owner: The layer whose `call` declares it.
        what: What is declared, in words.
        received: The sentence of the message that begins with `Received:`.
    """
    declared = declarations(owner)
    if declared.complete or declared.untraced:
        when = "was not declared when the model was first used"
        fix = (
            "Declare it unconditionally, or only under a condition on "
            "`training`, which is tried both ways at the first use."
        )
    else:
        when = "is first reached inside a compiled step"
        fix = f"Build the layer before: call it on a batch, `{owner.name}(x)`."
    return DeclarationError(
        f"{what} of {type(owner).__name__} {when}, so its weights could not "
        f"be kept and trained. {received}. {fix}{declared.why_late()}"
    )
