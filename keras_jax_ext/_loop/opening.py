"""How the data of a `fit`, `evaluate` or `predict` are read."""

from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.arrays import Blocks, Resident, is_plain, shapes
from keras_jax_ext._loop.execution import Run
from keras_jax_ext._loop.memory import fits
from keras_jax_ext._loop.modes import TRAIN
from keras_jax_ext._loop.stream import Stream

import jax
import keras


def opened(
    model: Any,
    iterator: Any,
    run: Run,
    tell: Callable[[str], Any],
    *,
    epochs: int = 1,
    sources: tuple[Any, ...] = (),
) -> Callable[[], Any]:
    """Choose how to read: return a function that begins a pass.

    Args:
        model: The model.
        iterator: `EpochIterator` of the data.
        run: `Run` that reads them.
        tell: Function of a line that says why few batches go together.
        epochs: Integer, passes to come.
        sources: Data of the user's that are read between the passes.
    """
    adapter = iterator.data_adapter
    begin = None
    if isinstance(adapter, _keras.ArrayDataAdapter):
        data, options = iterator.given
        weights = {"class_weight": options.get("class_weight")}
        arrays = _keras.Arrays(adapter, data, weights)
        steps = epochs * (iterator.num_batches or 1)
        begin = _rows(model, adapter, arrays, options, run, steps, sources)
    if begin:
        return begin
    most = run.group
    return lambda: Stream(adapter.get_jax_iterator(), most, tell)


def _rows(model, adapter, arrays, options, run, steps, sources):
    """As `opened`, of arrays; `None` if they go batch by batch."""
    can_change = arrays.can_change()
    if can_change and run.watched.intrudes:
        # A change shows at the next batch, as in Keras.
        return None
    rows = arrays.read()
    if not is_plain(rows):
        return None
    if run.mode is not TRAIN:
        return _blocks(arrays, rows, can_change, adapter.batch_size)
    if not fits(rows, model.resident_fraction):
        return None
    size = min(adapter.batch_size, jax.tree.leaves(rows)[0].shape[0])
    if not run.program.takes(*shapes(rows, size), steps):
        return None
    foreign = any(map(_is_code, sources))

    def again():
        changed = can_change and (foreign or run.may_change_data())
        return arrays.read() if changed else None

    shuffle = options.get("shuffle", False)
    return Resident(adapter, rows, shuffle, run.group, again).open


def _blocks(arrays, rows, can_change, size):
    fresh = [rows]

    def begin():
        if can_change and not fresh:
            return Blocks(arrays.read(), size)
        return Blocks(fresh.pop() if can_change else rows, size)

    return begin


def _is_code(source):
    """Whether reading a source runs code of the user."""
    return source is not None and not all(
        isinstance(array, jax.Array) or hasattr(array, "__array__")
        for array in keras.tree.flatten(source)
        if array is not None
    )
