"""The arrays of an HDF5 file in the layout of Keras 2, by layer."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np


class Stored(NamedTuple):
    """One array of a file, not yet read.

    Attributes:
        name: The variable's name, as `dense/kernel`.
        array: The dataset.
    """

    name: str
    array: h5py.Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(self.array.shape)

    def read(self) -> np.ndarray:
        """The array itself."""
        return np.asarray(self.array)


@contextlib.contextmanager
def opened(filepath: Any) -> Iterator[h5py.File | None]:
    """Open a file in the layout of Keras 2, which Keras 3 writes too.

    Args:
        filepath: What a user gave as a path.

    Yields:
        The file, or `None` if it is of another format, or not there.
    """
    if not isinstance(filepath, str | os.PathLike) or not os.path.isfile(
        filepath
    ):
        yield None
        return
    try:
        file = h5py.File(filepath, "r")
    except OSError:
        yield None  # it is no HDF5 file, or damaged: Keras says which
        return
    with file:
        yield file if weights_of(file) is not None else None


def weights_of(file: h5py.File) -> h5py.Group | None:
    """The group that holds the layers' weights, or `None`."""
    if _text_list(file, "layer_names") is not None:
        return file
    return group_of(file, "model_weights")


def group_of(file: h5py.File, name: str) -> h5py.Group | None:
    """A group of the file itself, or `None`."""
    group = _inside(file, name)
    return group if isinstance(group, h5py.Group) else None


def document(file: h5py.File, name: str) -> Any:
    """A JSON document that a file has as an attribute, or `None`.

    Args:
        file: The file.
        name: The attribute.

    Raises:
        ValueError: If it is no document.
    """
    text = file.attrs.get(name)
    if text is None:
        return None
    read = json.loads(text)
    if not isinstance(read, dict):
        raise ValueError(
            f"The entry {name!r} of a file is damaged. Received: {read!r}."
        )
    return decoded(read)


def decoded(value: Any) -> Any:
    """A document with lists in place of the tuples that Keras 2 marked."""
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape"):
        return [decoded(each) for each in value["items"]]
    return {key: decoded(each) for key, each in value.items()}


def by_layer(group: h5py.Group) -> dict[str, list[Stored]]:
    """The arrays of each layer that has some, in the order of the file."""
    names = _text_list(group, "layer_names") or []
    found = {name: arrays(_group(group, name)) for name in names}
    return {name: held for name, held in found.items() if held}


def of_model(group: h5py.Group) -> list[Stored]:
    """The arrays that belong to the model itself."""
    held = group_of(group, "top_level_model_weights")
    return [] if held is None else arrays(held)


def arrays(group: h5py.Group) -> list[Stored]:
    """The arrays that a group names, in its order.

    Raises:
        ValueError: If one is not there, in another file, or no numbers.
    """
    found = []
    for name in _text_list(group, "weight_names") or []:
        array = _inside(group, name)
        if not _is_sound(array):
            raise ValueError(
                f"The array {name!r} of a file is damaged: it is missing, in "
                f"another file, or no array of numbers. Received: {array!r}. "
                "Use another copy of the file."
            )
        found.append(Stored(name.partition(":")[0], array))
    return found


def _is_sound(array):
    return (
        isinstance(array, h5py.Dataset)
        and array.shape is not None
        and array.dtype.kind in "fiub"
        and not array.is_virtual
        and array.external is None
    )


def _group(group, name):
    found = _inside(group, name)
    if not isinstance(found, h5py.Group):
        raise ValueError(
            "A group of a file is damaged or missing. Received: "
            f"{name!r} in {group.name!r}. Use another copy of the file."
        )
    return found


def _inside(group, name):
    """What a name stands for in this file itself, or `None`.

    A link may lead to another file.
    """
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        link = group.get(part, getlink=True) if part in group else None
        if not isinstance(link, h5py.HardLink):
            return None
        group = group[part]
    return group


def _text_list(group, name):
    """An attribute that lists names, in pieces if it is long, or `None`."""
    if name in group.attrs:
        pieces = [group.attrs[name]]
    else:
        keys = (f"{name}{number}" for number in range(len(group.attrs)))
        pieces = [group.attrs[key] for key in keys if key in group.attrs]
        if not pieces:
            return None
    names = [each for piece in pieces for each in np.ravel(piece)]
    return [n.decode() if isinstance(n, bytes) else str(n) for n in names]
