"""The base of what is mixed in before a class of Keras."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Mixin: Any = None  # a keras.Model: what `super()` finds
else:
    Mixin = object
