"""The data of a `fit`, `evaluate` or `predict`, and how they are read."""

from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.agreement import all_the_same
from keras_jax_ext._loop.arrays import (
    Arrays,
    Blocks,
    Resident,
    is_plain,
    kinds,
    program_key,
)
from keras_jax_ext._loop.batches import Cursor, Span
from keras_jax_ext._loop.device import fits
from keras_jax_ext._loop.epoch_steps import Epochs
from keras_jax_ext._loop.execution import Executor
from keras_jax_ext._loop.memo import memo, tell
from keras_jax_ext._loop.modes import TRAIN
from keras_jax_ext._loop.parts import check_even, is_shared
from keras_jax_ext._loop.points import Points, Repeated
from keras_jax_ext._loop.readers import (
    holders,
    reader,
    reads_ahead,
    why_not_again,
)
from keras_jax_ext._loop.stream import Stream
from keras_jax_ext._xla.compilation import uncollected

import jax
import keras


class Source:
    """Data of any kind that Keras takes, and Keras's count of their steps.

    Args:
        model: The model that they are for.
        x: Inputs, or a source of batches.
        y: Labels. Defaults to `None`.
        sample_weight: Weights. Defaults to `None`.
        steps: Integer, the steps of an epoch. Defaults to `None`, all.
        **options: `batch_size`, `shuffle` and `class_weight`, as in `fit`.

    Raises:
        ValueError: If the data have no batch.
    """

    def __init__(
        self,
        model: Any,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        steps: int | None = None,
        **options: Any,
    ) -> None:
        self.model = model
        self._data = x, y, sample_weight
        self._options = options
        # Also yields Keras's own batches, one of which builds the model.
        self._counter = _keras.EpochIterator(
            x,
            y,
            sample_weight,
            steps_per_epoch=steps,
            steps_per_execution=memo(model).steps_per_execution,
            **options,
        )
        self._epochs: Epochs | None = None
        if self.num_batches == 0:
            raise ValueError(
                "An epoch needs at least one batch, and the data have none. "
                f"Received: shapes {jax.tree.map(_shape, self._data)}."
            )

    @property
    def num_batches(self) -> int | None:
        """Integer, the steps of an epoch; `None` if unknown."""
        return self._counter.num_batches

    @property
    def is_of_arrays(self) -> bool:
        """Whether batches are cut from arrays, by no code of the user."""
        return isinstance(self._counter.data_adapter, _keras.ArrayDataAdapter)

    def kinds(self) -> list[Span]:
        """A span of each kind that a pass over arrays without an order has.

        They hold the first batch: all else about them is that of the pass.
        """
        adapter, steps = self._counter.data_adapter, self.num_batches or 0
        batch = next(iter(adapter.get_jax_iterator()))
        return kinds(batch, _rows_of(self._data), adapter.batch_size, steps)

    def why_not_again(self, replay: bool) -> str | None:
        """Why a process that starts anew does not go on with these data.

        Args:
            replay: Boolean, whether the batches that were taken may be read
                once more.

        Returns:
            String, what the data are; `None` if it does.
        """
        adapter, x = self._counter.data_adapter, self._data[0]
        if isinstance(x, keras.utils.PyDataset) and reads_ahead(x):
            return why_not_again(adapter)
        if replay:
            return None
        if isinstance(x, Points) and x.resample is not None:
            return "`Points` that are resampled"
        return why_not_again(adapter)

    def _holders(self, others):
        """What knows something between two passes, and offers its state."""
        orders = memo(self.model).orders
        found = holders(self._counter.data_adapter, *others)
        return [*found, *([] if orders is None else [orders])]

    @uncollected()
    def build(self) -> None:
        """Build the model from Keras's own first batch.

        Drawing it draws a permutation, exactly as stock Keras does.
        """
        if self._epochs is None:
            _keras.build(self.model, self._counter)
        else:
            self._epochs.reset()
        self._counter.reset()

    def epochs(
        self,
        executor: Executor,
        verbose: Any,
        *,
        passes: int = 1,
        others: tuple[Any, ...] = (),
    ) -> Epochs:
        """Choose how to read the data, at the first call.

        Args:
            executor: `Executor` that reads them.
            verbose: As in `fit`: whether a line may say why few batches go
                together.
            passes: Integer, how many passes are to come. Defaults to 1.
            others: Data of the user that are read between the passes.
                Defaults to none.

        Returns:
            `Epochs`, the same at each call.
        """
        if self._epochs is None:
            self._check_same()
            most = executor.agreed_most()
            begin = self._points() or self._rows(executor, most, passes, others)
            # What one process reads batch by batch, all do.
            if not all(executor.agree("reading", begin is not None)):
                self._check_one_order(executor.mode)
                begin = self._stream(executor, most, verbose)
            self._epochs = Epochs(self._counter, begin, self._holders(others))
        return self._epochs

    def _check_same(self):
        """Raise where processes that share the model would step otherwise."""
        if not is_shared():
            return
        adapter, rows, x = self._counter.data_adapter, None, self._data[0]
        if isinstance(adapter, _keras.ArrayDataAdapter):
            rows = _rows_of(self._data)
        all_the_same(
            "steps and rows in an epoch",
            {
                "steps": self.num_batches,
                "steps_per_execution": self._counter.steps_per_execution,
                "rows": rows,
                "sets": self._points() and str(jax.tree.map(_shape, x.read())),
            },
            "Leave out the rows that only some of them have.",
        )
        if rows is not None:
            size = min(adapter.batch_size, rows)
            check_even(size)
            check_even(rows % size)

    def _points(self):
        """A function that begins a pass over points; `None` for others."""
        x = self._data[0]
        return Repeated(x).open if isinstance(x, Points) else None

    def _check_one_order(self, mode):
        if mode is TRAIN and memo(self.model).orders is not None:
            raise ValueError(
                "Models have orders of their own over arrays that fit on the "
                "device, and that no callback may change between batches. "
                "Received: arrays that are read batch by batch. Leave out "
                '`shuffle="member"`.'
            )

    def _stream(self, executor, most, verbose):
        adapter = self._counter.data_adapter

        def say(line):
            tell(self.model, f"{executor.mode.name}: {line}", verbose)

        return lambda: Stream(reader(adapter), most, say)

    def _rows(self, executor, most, passes, others):
        """A function that begins a pass over arrays; `None` if there is none.

        What is no array is a stream, and so are arrays that go one by one.
        """
        adapter, options = self._counter.data_adapter, self._options
        if not isinstance(adapter, _keras.ArrayDataAdapter):
            return None
        arrays = Arrays(adapter, self._data, options.get("class_weight"))
        can_change = arrays.can_change()
        if can_change and executor.watched.intrudes:
            # A change shows in the next batch, as in Keras.
            return None
        rows = arrays.read()
        if not is_plain(rows):
            return None
        if executor.mode is not TRAIN:
            return _blocks(arrays, rows, can_change, adapter.batch_size)
        if not fits(rows, self.model.resident_fraction):
            return None
        size = min(adapter.batch_size, jax.tree.leaves(rows)[0].shape[0])
        steps = passes * (self.num_batches or 1)
        orders = memo(self.model).orders
        takes = executor.program.takes(*program_key(rows, size), steps)
        if not (takes or orders):
            return None
        foreign = any(map(_runs_code, others))

        def again():
            asks = can_change and (foreign or executor.may_change_data())
            return arrays.read() if asks else None

        shuffle = options.get("shuffle", False)
        return Resident(adapter, rows, shuffle, most, again, orders).open


def _blocks(arrays, rows, can_change, size) -> Callable[[], Cursor]:
    fresh = [rows]

    def begin():
        if can_change and not fresh:
            return Blocks(arrays.read(), size)
        return Blocks(fresh.pop() if can_change else rows, size)

    return begin


def _rows_of(data):
    """How many rows some arrays have."""
    given = (a for a in keras.tree.flatten(data) if a is not None)
    return int(next(given).shape[0])


def _shape(array):
    return getattr(array, "shape", None)


def _runs_code(data):
    """Whether reading some data runs code of the user."""
    return data is not None and not all(
        isinstance(array, jax.Array) or hasattr(array, "__array__")
        for array in keras.tree.flatten(data)
        if array is not None
    )
