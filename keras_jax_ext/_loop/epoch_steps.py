"""Which steps an epoch has, counted as Keras counts them."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

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
        self._seen = 0
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
        if self._cursor is None or not asked:
            self._cursor, self._seen = self._begin(), 0
        # Whole executions, as Keras counts them.
        every = counter.steps_per_execution
        self._cursor.allow(total and -(-total // every) * every)
        step, before = 0, self._seen
        while not total or step < total:
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
        if self._is_at_end():
            self._cursor = None
        counter.data_adapter.on_epoch_end()

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
