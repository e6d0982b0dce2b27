"""Refuse a file of weights that has other arrays than the model.

Keras's loader reads the arrays that the model asks for. A model that could
not be built as it was saved asks for fewer, and the rest would get new random
values in silence.
"""

import contextlib
import threading
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name.entries import UNEXPECTED
from keras_jax_ext._inline.declarations import declarations

import keras

# What the readers of archives, of HDF5 and Keras's loader raise for bytes that
# nobody wrote so.
_DAMAGE = (
    *UNEXPECTED,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


class _Reading:
    """What is known of the file that a `load_weights` reads.

    Args:
        skips: Boolean, whether objects are left out.
    """

    def __init__(self, skips: bool) -> None:
        self.skips = skips
        self.store: Any = None
        self.damage: ValueError | None = None


class _Threads(threading.local):
    """What one thread reads; nothing but in `load_weights`."""

    def __init__(self):
        self.reading: _Reading | None = None


_thread = _Threads()


@contextlib.contextmanager
def loading(
    model: keras.Model, filepath: Any, objects_to_skip: Collection[Any] | None
) -> Iterator[None]:
    """Give the variables of `model` their values back if the block fails.

    A damaged file fails also where mismatches are skipped.

    Args:
        model: The model whose weights are loaded.
        filepath: Path of the file.
        objects_to_skip: Objects that Keras's loader leaves out, or `None`.
            With some, arrays that nothing asks for are no error.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *getattr(optimizer, "variables", ())]
    before = [(variable, variable.value) for variable in variables]
    declarations(model).compiled_from_file = False
    reading = _thread.reading = _Reading(skips=bool(objects_to_skip))
    try:
        yield
        if reading.damage is not None:
            raise reading.damage
    except BaseException as error:
        for variable, value in before:
            variable.assign(value)
        if isinstance(error, _DAMAGE):
            raise _damage(
                f"{type(error).__name__}: {error}", filepath
            ) from error
        raise
    finally:
        _thread.reading = None
        if reading.store is not None:
            # Keras leaves it open after a failure. HDF5 would then take what
            # it knows of an open file for what is in a new one of its name.
            reading.store.close()


def _damage(why, filepath):
    return ValueError(
        f"A file of weights is damaged: {why}. Received: {filepath}. Use "
        "another copy."
    )


def load(layer: keras.Layer, store: Any, read: Callable[[Any], None]) -> None:
    """Read the arrays of `layer` itself, and check those of all layers below.

    Args:
        layer: A layer of ours.
        store: What Keras's loader gives it.
        read: Its stock `load_own_variables`.

    Raises:
        ValueError: If the file is damaged, or has other arrays.
    """
    if not _keras.is_store(store):
        read(store)
        return
    reading = _thread.reading or _Reading(skips=False)
    reading.store = store
    path = _keras.entry_of(store)
    # After a failure Keras's loader asks again, by other paths.
    checked = vars(store).setdefault("_checked", {})
    if id(layer) in checked:
        error = checked[id(layer)]
    elif any(map(_holds(path), vars(store).setdefault("_roots", []))):
        error = None
    else:
        vars(store)["_roots"].append(path)
        error = checked[id(layer)] = _error(layer, path, store, reading)
    try:
        read(store)
    except Exception as failure:
        raise (error or failure) from None
    if error is not None:
        raise error


def _holds(path):
    return lambda root: root == "" or f"{path}/".startswith(f"{root}/")


def _error(layer, path, store, reading):
    """What is wrong with a file for `layer`, or `None`."""
    why = _damaged(store)
    if why is not None:
        # Noted, since Keras only warns of it where mismatches are skipped.
        reading.damage = _damage(why, store.path_or_io)
        return reading.damage
    found = _keras.file_shapes(store)
    if found is None or reading.skips:
        return None
    found = {p: keys for p, keys in found.items() if _holds(p)(path)}
    asked, layers = _keras.saved_shapes(layer, path)
    _move_to_places_in_file(layer, path, found, asked, layers)
    declared = declarations(layer)
    compiled, declared.compiled_from_file = declared.compiled_from_file, False
    faults = [
        *_differing(found, asked, layers),
        *_untaken(layer, found, asked, compiled),
        *_optimizer(layer, found, compiled),
    ]
    if not faults:
        return None
    shown = faults[:10] + ["..."] * (len(faults) > 10)
    return ValueError(
        "The arrays of a file must match those of the model. Received: "
        f"{'; '.join(shown)}.{_why(layer, layers)} Make the model as it was "
        "when it was saved; `load_weights(path, skip_mismatch=True)` reads "
        "what fits."
    )


def _damaged(store):
    """Say why the file of a store is not as it was written, or `None`."""
    try:
        whole = _keras.is_whole(store)
    except (OSError, ValueError, *_DAMAGE) as error:
        return f"{type(error).__name__}: {error}"
    return None if whole else "the arrays are not those that were written"


def _move_to_places_in_file(layer, path, found, asked, layers):
    """Ask for a layer that has several attributes by the one in the file."""
    places = {id(owner): place for place, owner in layers.items()}
    for other in found:
        if other in asked:
            continue
        owner = layer
        for name in other.removeprefix(path).strip("/").split("/"):
            owner = getattr(owner, name, None)
        place = places.get(id(owner))
        if place is not None and place not in found:
            asked[other], layers[other] = asked.pop(place), layers.pop(place)


def _differing(found, asked, layers):
    """Say which layers have arrays of other shapes, or none, in the file."""
    for path, layer in layers.items():
        keys, theirs = asked[path], found.get(path, {})
        loader = _keras.loader_of(layer)
        if theirs is None or not loader.__module__.startswith("keras."):
            continue  # a user's own method may read any arrays
        if keys.keys() != theirs.keys():
            yield (
                f"{len(theirs)} arrays for {_described(layer)}, which has "
                f"{len(keys)}"
            )
        else:
            for key, shape in keys.items():
                if shape != theirs[key]:
                    yield (
                        f"shape {theirs[key]} for {_weight(layer, key)} of "
                        f"{_described(layer)}, which has shape {shape}"
                    )


def _untaken(model, found, asked, compiled):
    """Say which arrays no layer asks for, an optimizer's state left out."""
    for path, keys in found.items():
        held = getattr(model, path.partition("/")[0], None)
        of_optimizer = isinstance(held, keras.optimizers.Optimizer) or (
            not compiled and _is_optimizer(path, keys)
        )
        if path not in asked and not of_optimizer:
            count = "arrays" if keys is None else f"{len(keys)} arrays"
            yield f"{count} at {path!r}, where the model has nothing"


def _is_optimizer(path, keys):
    """Whether a group looks like the state of an optimizer."""
    if "optimizer" in path:
        return True
    first = (keys or {}).get("0")
    return "/" not in path and first == () and keys.get("1", ()) == ()


def _optimizer(model, found, compiled):
    """Say how the optimizer's state differs, if the file compiled the model."""
    theirs = found.get("optimizer", {})
    optimizer = model.optimizer if compiled else None
    if theirs is None or optimizer is None or not optimizer.built:
        return
    ours = {str(i): tuple(v.shape) for i, v in enumerate(optimizer.variables)}
    # An optimizer that was never used has only a few scalars in the file; for
    # those Keras warns.
    if theirs != ours and (any(theirs.values()) or not theirs):
        yield (
            f"{len(theirs)} arrays at 'optimizer', where the optimizer "
            f"{optimizer.name!r} has {len(ours)} variables, or variables "
            "of other shapes"
        )


def _described(layer):
    path = getattr(layer, "path", None) or layer.name
    return f"layer {path!r} ({type(layer).__name__})"


def _weight(layer, key):
    own = _keras.own_variables(layer)
    known = key.isdigit() and int(key) < len(own)
    return repr(own[int(key)].name if known else key)


def _why(layer, layers):
    """Say why a layer could not be built from the file, where known."""
    causes = [
        f" {_described(each)} could not be built: {cause}."
        for each in {id(x): x for x in [layer, *layers.values()]}.values()
        if "_declarations" in vars(each)
        and not declarations(each).complete
        and (cause := declarations(each).untraced)
    ]
    return "".join(causes[:1])
