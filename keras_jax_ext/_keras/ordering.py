"""The layers of a layer in the order of its attributes."""

from typing import Any

from keras_jax_ext._keras.declaring import sublayers

import keras

# Lists and dicts of a user, which Keras wraps; its own it does not. A public
# list of the attributes that hold layers would replace this.
from keras.src.utils.tracking import TrackedDict, TrackedList


def groups_of_sublayers(layer: Any) -> list[list[Any]]:
    """The layers that `layer` itself tracks, those of a list together."""
    left = {id(each): each for each in sublayers(layer, recursive=False)}
    found = []
    for value in vars(layer).values():
        wrapped = isinstance(value, (TrackedDict, TrackedList))
        values = keras.tree.flatten(value) if wrapped else [value]
        found.append([left.pop(id(v)) for v in values if id(v) in left])
    return [group for group in found if group] + [[v] for v in left.values()]
