"""What a layer has declared inline, kept where Keras does not look."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_jax_ext import _keras

import keras


class Child:
    """One layer declared inline: its constructor call, and the line of it."""

    layer: keras.Layer

    def __init__(
        self,
        cls: type,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        line: str,
    ) -> None:
        self.cls = cls
        self.args = args
        self.kwargs = kwargs
        self.line = line
        self.attribute: str | None = None  # to which `call` assigns it

    def name_by(self, attribute: str) -> None:
        """Name an unnamed child by the first attribute it is assigned to."""
        if self.attribute is None:
            self.attribute = attribute
            if not self.kwargs.get("name"):
                self.layer.name = attribute

    def written(self) -> str:
        """The constructor call as a user would write it, and its line."""
        parts = [_short(value) for value in self.args]
        parts += [f"{k}={_short(value)}" for k, value in self.kwargs.items()]
        return f"{self.cls.__name__}({', '.join(parts)}) at {self.line}"


def _short(value):
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Declarations:
    """What one layer has declared inline, and how it was first called."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self.weights: dict[str, keras.Variable] = {}
        # Lists and dicts of children that `call` assigns, by attribute.
        self.structures: dict[str, Any] = {}
        self.complete = False
        # `(args, kwargs)` of the first call, as shapes.
        self.signature: tuple[Any, Any] | None = None
        self.is_named = False  # by its user, whatever the name looks like
        self.path_name: str | None = None
        self.rng: keras.random.SeedGenerator | None = None
        self.compiled_from_file = False  # until its arrays are read
        # Why a trace at the first use failed, if one did.
        self.untraced: str | None = None

    def why_late(self) -> str:
        """The last sentence of a message about a late declaration."""
        if self.untraced is None:
            return ""
        return (
            " At the first use, the trace that would have found it failed: "
            f"{self.untraced}"
        )


def declarations(layer: keras.Layer) -> Declarations:
    """The `Declarations` of `layer`, made when first asked for."""
    attributes = vars(layer)
    if "_declarations" not in attributes:
        # Not by `setattr`: Keras would track what it holds.
        object.__setattr__(layer, "_declarations", Declarations())
    return attributes["_declarations"]


def remember(layer: keras.Layer) -> Callable[[], None]:
    """Note the attributes and declarations of `layer`; returns the undo."""
    restore = _keras.snapshot(layer)
    declared = vars(layer).get("_declarations")
    values = {} if declared is None else vars(declared)
    before = {name: copy.copy(value) for name, value in values.items()}

    def undo():
        restore()
        if declared is not None:
            vars(declared).update(before)

    return undo
