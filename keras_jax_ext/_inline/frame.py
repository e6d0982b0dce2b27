"""The rules of inline declaration: names, sameness, lateness.

One running `call` is a `Frame`. A constructor that is used in it asks the
frame, which makes the layer the first time and finds it by its name ever
after. What a layer has declared is kept in its `Declarations`, an object that
Keras neither tracks nor saves.
"""

import inspect
import itertools
import sys
import types

from keras_jax_ext import _keras
from keras_jax_ext._inline.arguments import (
    DeclarationError,
    check_constants,
    check_weight,
    same_arguments,
)

import jax
import keras

# Frames of these packages are never "the user's line".
_LIBRARIES = {"keras_jax_ext", "keras", "jax", "flax", "contextlib", "optree"}

# These trace their body again when the types of the carry change.
_LOOPS = {
    inspect.unwrap(loop).__code__ for loop in (jax.lax.scan, jax.lax.while_loop)
}


class Child:
    """One layer declared inline: what was asked for, and where."""

    def __init__(self, layer, cls, args, kwargs, line):
        self.layer = layer
        self.cls = cls
        self.args = args
        self.kwargs = kwargs
        self.line = line
        self.attribute = None  # where `call` assigns it

    def name_by(self, attribute):
        """The first attribute it is assigned to names an unnamed child."""
        if self.attribute is None:
            self.attribute = attribute
            if not self.kwargs.get("name"):
                self.layer.name = attribute

    def written(self):
        """The constructor call as a user would write it, with its line."""
        return f"{written(self.cls, self.args, self.kwargs)} at {self.line}"


class Declarations:
    """What one layer has declared inline, and how it was first called."""

    def __init__(self):
        self.children = {}
        self.weights = {}
        self.structures = {}  # lists of children that `call` assigns
        self.complete = False
        self.signature = None
        self.is_named = False  # by its user, whatever the name looks like
        self.path_name = None
        self.rng = None
        self.compiled_from_file = False  # until its arrays are read
        self.untraced = None  # why a trace at the first use failed, if it did

    def why_late(self):
        """The end of a message about a declaration after the build."""
        if self.untraced is None:
            return ""
        return (
            " At the first use, the trace that would have found it failed: "
            f"{self.untraced}"
        )


def declarations(layer):
    """The `Declarations` of `layer`, made when first asked for."""
    attributes = vars(layer)
    if "_declarations" not in attributes:
        # Past Keras's `__setattr__`, which would look into it.
        object.__setattr__(layer, "_declarations", Declarations())
    return attributes["_declarations"]


def user_line():
    """`file:line` of the innermost frame that is the user's own code."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _LIBRARIES:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def written(cls, args, kwargs):
    """A constructor call in source form, long values shortened."""
    parts = [_short(value) for value in args]
    parts += [f"{key}={_short(value)}" for key, value in kwargs.items()]
    return f"{cls.__name__}({', '.join(parts)})"


def _short(value):
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Frame:
    """One running `call`: the names it has used so far."""

    def __init__(self, owner, function, build):
        self.owner = owner
        self.functions = [function]  # more than one under super().call()
        self.building = build is not None and not self.declared.complete
        self.running = _keras.running_layer()
        self.used = set()
        self.late = []
        self.loops = {}
        self.before = len(_keras.uninitialized_variables())

    @property
    def declared(self):
        return declarations(self.owner)

    def child(self, cls, args, kwargs, construct):
        """Make or find the layer that `cls(*args, **kwargs)` means here."""
        check_constants(self.owner, cls, args, kwargs)
        line = user_line()
        self._forget_repeated_traces()
        name = self._child_name(cls, kwargs.get("name"), line)
        asked = Child(None, cls, args, kwargs, line)
        found = self.declared.children.get(name)
        if found is None:
            return self._add_child(name, asked, construct)
        self._check_same(name, found, asked)
        return found.layer

    def _child_name(self, cls, explicit, line):
        """The explicit name or the class's, numbered by order of execution."""
        base = explicit or _keras.to_snake_case(cls.__name__)
        for number in itertools.count():
            name = f"{base}_{number}" if number else base
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
        """A loop that traces its body once more means the same layers."""
        for loop, trace in reversed(list(_running_loops())):
            # The frame objects are kept: identity holds while they live.
            known, last_trace, used = self.loops.get(id(loop), (None,) * 3)
            if known is None:
                used = frozenset(self.used)
            elif last_trace is not trace:
                self.used = set(used)
            self.loops[id(loop)] = loop, trace, used

    def _taken(self, name):
        # Not hasattr: it would run the owner's properties.
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
                f"One name cannot mean two lines of `call`: which of them runs "
                f"first depends on a condition. Received: {name!r} as "
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

    def weight(self, name, spec, make):
        """Make or find the variable that `add_weight` in `call` means."""
        if name is None:
            name = next(n for n in _numbered("weight") if n not in self.used)
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
                f"`build`. Received: name={name!r} at {user_line()}. Use that "
                "attribute, or choose another name."
            )

    def close(self):
        """Late declarations are fine if they hold no variables."""
        self._check_late()
        if self.building or not _keras.in_compiled_step():
            return
        made = _keras.uninitialized_variables()[self.before :]
        if made:
            raise DeclarationError(
                f"Weights made inside a compiled step would be made anew at "
                f"each trace and never trained. Received: {made[0].path!r} in "
                f"the `call` of {type(self.owner).__name__}. Declare their "
                "layer inline from keras_jax_ext.layers, or make it in "
                "`__init__`, and call the model once before training."
            )

    def _check_late(self):
        for name in self.late:
            child = self.declared.children[name]
            if child.layer.variables:
                del self.declared.children[name]
                raise late_error(
                    self.owner,
                    f"Layer {name!r}",
                    f"Received: {child.written()}",
                )


def _running_loops():
    """Frames of the JAX loops inside this `call`, each with its next inner."""
    inner: types.FrameType | None = None
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "scoped_call":
        if frame.f_code in _LOOPS:
            yield frame, inner
        inner, frame = frame, frame.f_back


def _numbered(base):
    return (f"{base}_{n}" if n else base for n in itertools.count())


def late_error(owner, what, received):
    """The error for state that is first declared after the first use."""
    declared = declarations(owner)
    if declared.complete or declared.untraced:
        when = "was not declared when the model was first used"
        fix = (
            "Declare it unconditionally, or only under a condition on "
            "`training`, which is tried both ways at the first use."
        )
    else:
        when = "is first reached inside a compiled step"
        fix = (
            "Call the layer on a batch before, so that it is built: "
            f"`{owner.name}(x)`."
        )
    return DeclarationError(
        f"{what} of {type(owner).__name__} {when}, so its weights could not "
        f"be kept and trained. {received}. {fix}{declared.why_late()}"
    )
