"""The arrays that Keras's saver writes for a model, and those of a file."""

import io
import json
import os
import zlib
from typing import Any

import h5py
import keras
import numpy as np

# ruff: isort: off
# Which arrays belong to which path in a file: the walk over attributes is
# Keras's own, and has no public name.
from keras.src.saving import saving_lib
# ruff: isort: on

from keras_jax_ext._keras.declaring import get_global_attribute

# Where TensorFlow's Keras 2.13 kept layers; Keras still finds them.
_OLD = "_layer_checkpoint_dependencies"
_CHECKSUM = "keras_jax_ext_checksum"
# How many times its bytes on disk an array may take in memory. For Keras too,
# but only from 4 GB on, which take minutes to read.
_MOST_EXPANSION = 1000


class _Recorder(saving_lib.H5IOStore):
    """Takes what a saver writes, and keeps the shapes."""

    def __init__(self) -> None:
        self._h5_entry_group: dict[str, Any] = {}
        self.path = ""
        self.shapes: dict[str, dict[str, Any]] = {}

    def __bool__(self):
        return True

    def make(self, path, metadata=None):
        self.path = path
        self.shapes.setdefault(path, {})
        return self

    def __setitem__(self, key, value):
        self.shapes[self.path][key] = tuple(getattr(value, "shape", ()))


class _Visited(set):
    """Notes the path of each object, which Keras adds when it is written."""

    def __init__(self, recorder, skipped) -> None:
        super().__init__(map(id, skipped))
        self.recorder = recorder
        self.paths: dict[int, str] = {}

    def add(self, item):
        self.paths.setdefault(item, self.recorder.path)
        super().add(item)


def saved_shapes(
    layer: keras.Layer, path: str
) -> tuple[dict[str, dict[str, Any]], dict[str, keras.Layer]]:
    """The arrays that the saver would write for `layer`, without optimizers.

    Args:
        layer: The layer.
        path: Where its own arrays are in the file.

    Returns:
        Dict of the shapes by key by path, and dict of the layers by path.
    """
    recorder = _Recorder()
    layers = [layer, *layer._flatten_layers(include_self=False)]
    held = [v for each in layers for v in vars(each).values()]
    # Their arrays would be brought to the host.
    optimizers = [v for v in held if isinstance(v, keras.optimizers.Optimizer)]
    visited = _Visited(recorder, optimizers)
    # Private, the walk of `save_weights`; replaced by: a public list.
    saving_lib._save_state(layer, recorder, None, path, visited)
    owners = {id(each): each for each in layers}
    by_path = {p: owners[i] for i, p in visited.paths.items() if i in owners}
    return recorder.shapes, by_path


def custom_objects() -> dict[str, Any]:
    """The classes by name of the `custom_object_scope`s that are open."""
    return dict(get_global_attribute("custom_objects_scope_dict") or {})


def loader_of(layer: keras.Layer) -> type:
    """The class whose `load_own_variables` reads for `layer`, past ours."""
    for cls in type(layer).__mro__:
        ours = cls.__module__.startswith("keras_jax_ext.")
        if "load_own_variables" in vars(cls) and not ours:
            return cls
    raise AssertionError("unreachable")


def is_store(store: Any) -> bool:
    """Whether `store` reads an HDF5 file: Keras also hands over dicts."""
    return isinstance(store, saving_lib.H5IOStore) and store.mode == "r"


def entry_of(store: Any) -> str:
    """The path that a store was asked for last."""
    return store._h5_entry_path or ""


def file_shapes(store: Any) -> dict[str, Any] | None:
    """The shapes of the arrays of a file, by key by path.

    Returns:
        Dict. The shapes of a file in shards are `None`, since not all are
        open. `None` if an older Keras wrote the paths.
    """
    shards = getattr(store, "sharding_config", None)
    if shards is not None:
        return {_group(p.strip("/")): None for p in shards["weight_map"]}
    if _OLD in store.h5_file:
        return None
    shapes: dict = {}
    for name, array in _arrays(store.h5_file):
        path, _, key = name.rpartition("/")
        # An empty one has no shape.
        shape = array.shape and tuple(array.shape)
        shapes.setdefault(_group(path), {})[key] = shape
    return shapes


def _group(path):
    if path == "vars":
        return ""
    return path.removesuffix("/vars")


def _arrays(file):
    found: list = []

    def visit(name, node):
        if isinstance(node, h5py.Dataset):
            found.append((name, node))

    file.visititems(visit)
    return sorted(found, key=lambda pair: pair[0])


def write_class(filepath: Any, cls: type) -> None:
    """Name `cls` in a legacy file, which has the name of Keras's class.

    Layers below the model are named as they are registered; only the model's
    own class is not.
    """
    path = os.fspath(filepath)
    if not path.endswith((".h5", ".hdf5")) or not os.path.isfile(path):
        return
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        if config["class_name"] == cls.__name__:
            config["class_name"] = keras.saving.get_registered_name(cls)
            file.attrs["model_config"] = json.dumps(config).encode()


def weights_file(model: keras.Model) -> bytes:
    """The bytes of the file that `save_weights` writes.

    Args:
        model: A built model.
    """
    memory = io.BytesIO()
    # Private; replaced by: a public `save_weights` into a file object.
    store = saving_lib.H5IOStore(memory, mode="w")
    saving_lib._save_state(model, store, None, "", set())
    store.close()
    return memory.getvalue()


def sign(store: Any) -> None:
    """Have a checksum written when the store of a file is closed."""
    if type(store) is not saving_lib.H5IOStore or entry_of(store):
        return
    close = store.close

    def signed_close():
        if store.h5_file:
            store.h5_file.attrs[_CHECKSUM] = _checksum(store.h5_file)
        close()

    vars(store)["close"] = signed_close


def is_whole(store: Any) -> bool:
    """Whether the arrays of a file are those that were written.

    `True` for a file without a checksum.
    """
    if type(store) is not saving_lib.H5IOStore:
        return True
    if store.archive is not None and not _is_whole_archive(store.archive):
        return False
    written = store.h5_file.attrs.get(_CHECKSUM)
    if written is None:
        return True
    bounded = all(
        array.nbytes <= _MOST_EXPANSION * stored
        for array, stored in _stored(store.h5_file)
    )
    return bounded and np.array_equal(written, _checksum(store.h5_file))


def _stored(file):
    """The arrays that have a shape, and the bytes that each takes on disk."""
    every = [array for _, array in _arrays(file) if array.shape is not None]
    return [(array, array.id.get_storage_size()) for array in every]


def _is_whole_archive(archive):
    # In Python 3.13.0 an open member seeks from where the last reader of the
    # archive stopped: stop where the member did.
    at = archive.fp.tell()
    damaged = archive.testzip()
    archive.fp.seek(at)
    return damaged is None


def _checksum(file):
    total = 0
    for name, array in _arrays(file):
        total = zlib.crc32(f"{name} {array.shape}".encode(), total)
        total = zlib.crc32(np.asarray(array).tobytes(), total)
    return total
