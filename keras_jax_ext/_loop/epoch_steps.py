"""Which steps an epoch has, counted as Keras counts them."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
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
        holders: Objects that know something between two passes, by
            `get_state` and `set_state`. Defaults to none.
    """

    def __init__(
        self,
        counter: Any,
        begin: Callable[[], Cursor],
        holders: Sequence[Any] = (),
    ) -> None:
        self._counter = counter
        self._begin = begin
        self._holders = holders
        # A generator that has ended yields no second pass.
        self._once = isinstance(
            counter.data_adapter, _keras.GeneratorDataAdapter
        )
        # Whether another process may have to go on with a pass.
        self.is_kept = False
        self.reset()

    def reset(self) -> None:
        """End the pass that is under way: the next epoch begins another."""
        self._cursor: Any = None
        # Steps of the pass, as Keras counts them and as they were taken, and
        # those of the epoch.
        self._seen = self._at = self.step = 0
        # Where a process before this one was, and its steps of the epoch.
        self._goal: tuple[Any, int] = None, 0
        # The batches of passes that have to be read again to go on.
        self._before: list[int] = []
        # The number of the pass when it began.
        self._begun: int | None = None
        # The steps of the pass before this epoch; whether it may begin anew.
        self._earlier, self._may_renew = 0, False
        # The steps of the epoch in whole executions, `None` if unknown.
        self._allowed: int | None = None
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
        (goal, step), self._goal = self._goal, (None, 0)
        number = self.number
        if goal is not None:
            # Before a dataset draws anything: the other process had done so.
            now = self._random()
            self.number = goal["number"]
        counter.data_adapter.on_epoch_begin()
        total = asked or self._known
        if goal is not None:
            self._resume(goal)
            self.number = number
            self._set_random(now)
        elif self._cursor is None or not asked:
            self._begin_pass()
        # Whole executions, as Keras counts them.
        every, left = counter.steps_per_execution, total and total - step
        self._allowed = left and -(-left // every) * every
        self._cursor.allow(self._allowed)
        self._earlier = self._seen - step
        while not total or step < total:
            self._at, self.step = self._earlier + step, step
            self._may_renew = step == 0 < self._earlier and not self._once
            if self._is_at_end():
                if asked:
                    self._interrupted()
                    return
                break
            # Of a source that says no length Keras learns it here, and counts
            # the execution that found no batch: a later pass may be longer.
            self._seen = self._earlier + step + every
            remaining = total - step if total else None
            step += (yield step, remaining, self._cursor) or 0
            self._seen = self._earlier + step
        self._at, self.step = self._seen, step
        if self._is_at_end() or not asked:
            self._end_pass()
        counter.data_adapter.on_epoch_end()

    def renewed(self) -> Cursor:
        """Begin another pass, where the last one ended with its epoch.

        Nobody could know before: the source says no length.

        Raises:
            StopIteration: If there is no reason to.
        """
        if not self._may_renew:
            raise StopIteration
        self._may_renew = False
        self._seen = self._earlier
        self._end_pass()
        self._begin_pass().allow(self._allowed)
        self._earlier = self._at = 0
        return self._cursor

    def position(self) -> dict[str, Any]:
        """Where the data are: what `go_to` needs, and random streams."""
        cursor = self._cursor
        return {
            "number": self.number,
            "known": self._known,
            "before": self._before,
            "random": self._random(),
            "pass": cursor
            and {
                "seen": self._at,
                "drawn_from": cursor.drawn_from,
                "number": self._begun,
                "place": cursor.place(),
            },
        }

    def go_to(self, position: dict[str, Any], step: int) -> None:
        """Have the next epoch go on where another process was.

        Args:
            position: Dict, from `position`.
            step: Integer, the steps of the epoch that it took.
        """
        for taken in position["before"]:
            self._replay(taken)
        self._before, self._known = [*position["before"]], position["known"]
        self.number = position["number"]
        self._goal = position["pass"], step
        self._set_random(position["random"])

    def _replay(self, taken):
        """Read a pass that the other process had read."""
        self._counter.data_adapter.on_epoch_begin()
        self._begin_pass().skip(taken)
        self._cursor = None
        self._counter.data_adapter.on_epoch_end()

    def _resume(self, within):
        """Begin the pass as the other process did, past what it took."""
        if within["drawn_from"]:
            self._set_random(within["drawn_from"])
        cursor = self._begin_pass()
        cursor.drawn_from = within["drawn_from"]
        cursor.skip(within["seen"], within["place"])
        self._seen = self._at = within["seen"]

    def _begin_pass(self):
        cursor: Any = self._begin()
        self._cursor, self._seen = cursor, 0
        self._begun = self.number
        if self.is_kept:
            cursor.note = self._random
        return cursor

    def _end_pass(self):
        cursor = self._cursor
        if self.is_kept and cursor is not None and cursor.replays:
            self._before.append(self._seen)
        self._cursor = None

    def _random(self):
        """The random streams, and what the source knows."""
        return {
            "streams": _keras.streams(),
            "holders": [each.get_state() for each in self._holders],
        }

    def _set_random(self, state):
        _keras.set_streams(state["streams"])
        for each, known in zip(self._holders, state["holders"], strict=True):
            each.set_state(known)

    @property
    def number(self) -> int | None:
        """The number of the pass, by which Keras 3.16 shuffles."""
        return _keras.epoch_number(self._counter.data_adapter)

    @number.setter
    def number(self, value: int | None) -> None:
        _keras.set_epoch_number(self._counter.data_adapter, value)

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
        self._end_pass()
        with self._counter.catch_stop_iteration():
            raise StopIteration
