"""Any source of batches, read on the caller's thread, many at a time."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from keras_jax_ext._loop import device
from keras_jax_ext._loop.agreement import agreement
from keras_jax_ext._loop.arrays import block_batches, is_plain
from keras_jax_ext._loop.batches import DrawnOnce, Single, Span, Stacked
from keras_jax_ext._loop.readers import Reader

import jax

# The most batches in a stack. Fewer than in a block of arrays, since the
# device waits until all of them are read.
STREAM_BATCHES = 16
# Seconds that a stack waits for more batches to go with its first.
WAIT_SECONDS = 0.01
# Seconds that processes wait for a stack, by what their last batches took: no
# stack ends early in one alone.
AWAIT_SECONDS = 0.2

SINGLE = "one batch at a time, since they are not dense arrays of numbers."
CHANGING = "batches of one shape at a time, since their shapes change."


def _signature(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(a.shape, a.dtype) for a in leaves]


class Stream(DrawnOnce):
    """A cursor over any source of batches.

    A program runs while its caller goes on, so the next batches are read and
    stacked while the device works on the last. A second thread would gain
    nothing, and many sources belong to the thread that made them: a connection
    of SQLite, a signal handler, a context.

    Args:
        batches: Iterable of batches, or their `Reader`.
        most: Integer, the most batches in a stack.
        tell: Function of a line that says why few batches go together.
    """

    runs_code = True

    def __init__(
        self,
        batches: Iterable[Any] | Reader,
        most: int = STREAM_BATCHES,
        tell: Callable[[str], Any] = print,
    ) -> None:
        if not isinstance(batches, Reader):
            batches = Reader(batches)
        self._reader = batches
        self.replays = self._reader.replays
        self._agreed = agreement()
        # The most batches of a stack that all processes wait for.
        self._awaited = 1
        self._most = min(most, STREAM_BATCHES)
        self._tell = tell
        self._why: str | None = None
        self._changes = 0
        self._allowed: float = 0
        self._left_over: Any = None
        self._error: BaseException | None = None

    def allow(self, steps: int | None) -> None:
        self._allowed = float("inf") if steps is None else steps
        self._changes = 0

    def take(self, limit: int) -> Span:
        """Return the next span, of at most `limit` steps.

        An exception of the source is raised here, with its traceback, after
        the batches that came before it.
        """
        if self._error:
            error, self._error = self._error, None
            raise error
        self.before_draw()
        if self._agreed is not None:
            return self._take_together(min(limit, self._allowed))
        stack = self._collect(min(limit, self._allowed), WAIT_SECONDS)
        if stack is None:
            raise StopIteration
        if self._why:
            self._tell(self._why)
        return stack.span()

    def place(self) -> Any:
        # Between two executions no batch is left over: one takes it before it
        # ends.
        return self._reader.state()

    def skip(self, steps: int, place: Any = None) -> None:
        self._reader.go_to(steps, place)

    def _take_together(self, most):
        """As many batches as each process has, of the same shapes."""
        started = time.monotonic()
        stack = self._collect(min(most, self._awaited), float("inf"))
        mine = [
            stack.steps if stack else 0,
            time.monotonic() - started,
            stack and str(stack.signature),
        ]
        agreed: Any = self._agreed
        every = agreed.gather("batches", mine)
        steps, seconds, kinds = zip(*every, strict=True)
        if not min(steps):
            raise StopIteration
        if len({*kinds}) > 1:
            raise ValueError(
                "Processes that share a model give batches of the same "
                f"shapes. Received: {', '.join(kinds)}, one of each process. "
                "Leave out what only some of them have."
            )
        if self._why:
            self._tell(self._why)
        each = max(seconds) / min(steps)
        self._awaited = max(1, int(AWAIT_SECONDS / max(each, 1e-6)))
        return stack.span()._replace(steps=min(steps))

    def _collect(self, most, seconds):
        """Stack batches of one shape: as many as come soon."""
        stack, since = None, time.monotonic()
        while most > 0 and not (stack and stack.is_full(most)):
            batch = self._next(stack)
            if batch is None:
                break
            if stack is None:
                stack = _Stack(batch, self._most)
                if not is_plain(batch):
                    self._why = SINGLE
            elif _signature(batch) != stack.signature:
                self._left_over = batch
                self._changes += 1
                # The smaller batch at the end of an epoch surprises nobody.
                if self._changes > 1:
                    self._why = CHANGING
                break
            stack.add(batch)
            self._allowed -= 1
            if time.monotonic() - since > seconds:
                break
        return stack

    def _next(self, stack):
        """The source's next batch; `None` if there is none."""
        if self._left_over is not None:
            batch, self._left_over = self._left_over, None
            return batch
        try:
            return next(self._reader)
        except StopIteration:
            return None
        except BaseException as error:
            if stack is None:
                raise
            # The batches before it are still good: raise after them.
            self._error = error
        return None


class _Stack:
    """Batches of one shape on the host, copied as they come.

    A source may fill the same arrays again. The stack has one shape, however
    many batches came in time, so that one program serves all.

    Args:
        first: The first batch, which is to be added too.
        most: Integer, the most batches.
    """

    def __init__(self, first, most) -> None:
        self.signature = _signature(first)
        self.steps = 0
        self._most = 1
        self._arrays = None
        if is_plain(first) and not device.must_stay(first):
            self._most = min(most, block_batches(first))
            self._arrays = jax.tree.map(
                lambda a: device.zeros((self._most, *a.shape), a.dtype), first
            )
        else:
            self._alone = jax.tree.map(device.copied, first)

    def is_full(self, most):
        """Whether it holds `most` batches, or all that it can."""
        return self.steps >= min(self._most, most)

    def add(self, batch):
        """Copy one more batch behind the others."""
        if self._arrays is not None:
            jax.tree.map(self._copy, self._arrays, batch)
        self.steps += 1

    def _copy(self, stacked, array):
        stacked[self.steps] = array

    def span(self):
        """Put the batches on the device."""
        if self._arrays is None:
            return Span(Single(device.put(self._alone, stacked=False)), 0, 1)
        if self._most > 1:
            stacked = Stacked(device.put(self._arrays, stacked=True))
            return Span(stacked, 0, self.steps)
        batch = jax.tree.map(lambda a: a[0], self._arrays)
        return Span(Single(device.put(batch, stacked=False)), 0, 1)
