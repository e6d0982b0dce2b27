"""Which steps an epoch has, counted as Keras counts them."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.batches import Cursor


class Epochs:
    """Passes over the data, cut into epochs by Keras's counts.

    Args:
        counter: Keras's `EpochIterator`: the adapter of the data, and how many
            steps are asked for.
        begin: Function that begins a pass over the data, and returns its
            `Cursor`.
    """

    def __init__(self, counter: Any, begin: Callable[[], Cursor]) -> None:
        self._counter = counter
        self._begin = begin
        self.reset()

    def reset(self) -> None:
        """End the pass that is under way: the next epoch begins another."""
        self._cursor: Cursor | None = None
        # Steps of the pass, as Keras counts them and as they were taken, and
        # those of the epoch.
        self._seen = self._at = self.step = 0
        # Steps of the epoch that a process before this one has taken.
        self._resumed = 0
        # Of a source that says no length, it is known after the first pass.
        self._known = self._counter.data_adapter.num_batches

    def executions(
        self,
    ) -> Generator[tuple[int, int | None, Cursor], int | None, None]:
        """Yield `(step, remaining steps or None, cursor)` for an epoch.

        Send the number of steps that were taken. A cursor that runs dry raises
        `StopIteration` in the caller, for `until_dry`.
        """
        counter, asked = self._counter, self._counter.steps_per_epoch
        counter.data_adapter.on_epoch_begin()
        total = asked or self._known
        step, self._resumed = self._resumed, 0
        if self._cursor is None or not (asked or step):
            self._cursor, self._seen = self._begin(), 0
        # Whole executions, as Keras counts them.
        every, left = counter.steps_per_execution, total and total - step
        self._cursor.allow(left and -(-left // every) * every)
        before = self._seen - step
        while not total or step < total:
            self._at, self.step = before + step, step
            if self._is_at_end():
                if asked:
                    self._interrupted()
                    return
                break
            # Of a source that says no length Keras learns it here, and counts
            # the execution that found no batch: a later pass may be longer.
            self._seen = before + step + every
            remaining = total - step if total else None
            step += (yield step, remaining, self._cursor) or 0
            self._seen = before + step
        self._at, self.step = self._seen, step
        if self._is_at_end() or not asked:
            self._cursor = None
        counter.data_adapter.on_epoch_end()

    def position(self) -> dict[str, Any] | None:
        """Where the pass is, as JSON holds it; `None` between two passes."""
        if self._cursor is None:
            return None
        drawn_from = getattr(self._cursor, "drawn_from", None)
        return {"seen": self._at, "drawn_from": drawn_from}

    @property
    def number(self) -> int | None:
        """The number of the pass, by which Keras 3.16 shuffles."""
        return _keras.epoch_number(self._counter.data_adapter)

    @number.setter
    def number(self, value: int | None) -> None:
        _keras.set_epoch_number(self._counter.data_adapter, value)

    def go_to(self, position: dict[str, Any], step: int) -> None:
        """Begin a pass where another process left it.

        Args:
            position: Dict, from `position`.
            step: Integer, the steps that it took in this epoch.
        """
        _keras.set_numpy_stream(position["drawn_from"])
        cursor: Any = self._begin()
        cursor.skip(position["seen"])
        self._cursor = cursor
        self._seen = self._at = position["seen"]
        self._resumed = step

    @contextlib.contextmanager
    def until_dry(self) -> Iterator[None]:
        """Within the block, a cursor that runs dry ends the epoch."""
        try:
            yield
        except StopIteration:
            if self._known is None:
                self._known = self._seen
            self._interrupted()

    def _is_at_end(self):
        return bool(self._known) and self._seen >= self._known

    def _interrupted(self):
        """Let Keras warn that the data were too few, and end the epoch."""
        self._cursor = None
        with self._counter.catch_stop_iteration():
            raise StopIteration
