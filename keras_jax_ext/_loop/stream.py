"""Any source of batches, read on the caller's thread, many at a time."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.arrays import group_size, is_plain, zeros
from keras_jax_ext._loop.batches import Piece, Single, Stacked

import jax
import numpy as np

# Batches in one super-batch, at most. Fewer than of arrays: all of them are
# waited for.
GROUP = 16
# A stream waits so long for more batches to go with the first, in seconds.
GRACE = 0.01

SINGLE = "one batch at a time, since they are not dense arrays of numbers."
CHANGING = "batches of one shape at a time, since their shapes change."


def _signature(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(a.shape, a.dtype) for a in leaves]


class Stream:
    """A pass over any source of batches.

    Programs run while their caller goes on, so that the next batches are read
    and stacked while the device works on the last. Another thread would gain
    nothing by that, and a source may be bound to the thread that made it: a
    connection of SQLite, a signal handler, a context.

    Nothing is read but what `take` asks for and `allow` grants: what a source
    yields next may depend on a callback, or belong to the next epoch.

    Args:
        batches: Iterable of batches.
        most: Integer, batches in a super-batch at most.
        tell: Function of a line that says why few batches go together.
    """

    runs_code = True

    def __init__(
        self,
        batches: Iterable[Any],
        most: int = GROUP,
        tell: Callable[[str], Any] = print,
    ):
        self._batches = iter(batches)
        self._most = min(most, GROUP)
        self._tell = tell
        self._why: str | None = None
        self._changes = 0
        self._allowed: float = 0
        self._left_over: Any = None
        self._error: BaseException | None = None

    def allow(self, steps: int | None):
        """Let `steps` more batches be read; all, if `None`."""
        self._allowed = float("inf") if steps is None else steps
        self._changes = 0

    def take(self, limit: int):
        """Return the next piece, of `limit` batches at most.

        An exception of the source is raised here, with its traceback, after
        the batches that came before it.
        """
        if self._error:
            error, self._error = self._error, None
            raise error
        group = self._collect(min(limit, self._allowed))
        if group is None:
            raise StopIteration
        if self._why:
            self._tell(self._why)
        return group.piece()

    def _collect(self, most):
        """Batches of one shape: as many as come soon."""
        group, since = None, time.monotonic()
        while most > 0 and not (group and group.full(most)):
            batch = self._next(group)
            if batch is None:
                break
            if group is None:
                group = _Group(batch, self._most)
                if not is_plain(batch):
                    self._why = SINGLE
            elif _signature(batch) != group.signature:
                self._left_over = batch
                self._changes += 1
                # A smaller batch at the end of an epoch is no surprise.
                if self._changes > 1:
                    self._why = CHANGING
                break
            group.add(batch)
            self._allowed -= 1
            if time.monotonic() - since > GRACE:
                break
        return group

    def _next(self, group):
        """The source's next batch, `None` at its end."""
        if self._left_over is not None:
            batch, self._left_over = self._left_over, None
            return batch
        try:
            return next(self._batches)
        except StopIteration:
            return None
        except BaseException as error:
            if group is None:
                raise
            # What came before it is still good.
            self._error = error
        return None


class _Group:
    """Batches of one shape, to be stacked.

    They are copied as they come: a source may fill the same arrays again. The
    stack has one shape, however many came in time, for one program.

    Args:
        first: The first of them; to be added too.
        most: Integer, how many at most.
    """

    def __init__(self, first, most):
        self.signature = _signature(first)
        self._steps = 0
        self._most = 1
        self._arrays = None
        if is_plain(first) and not _on_device(first):
            self._most = min(most, group_size(first))
            self._arrays = jax.tree.map(
                lambda a: zeros((self._most, *a.shape), a.dtype), first
            )
        else:
            self._alone = jax.tree.map(_own, first)

    def full(self, most):
        """Whether it holds `most` batches, or all that it can."""
        return self._steps >= min(self._most, most)

    def add(self, batch):
        """Copy one more batch behind the others."""
        if self._arrays is not None:
            jax.tree.map(self._copy, self._arrays, batch)
        self._steps += 1

    def _copy(self, stacked, array):
        stacked[self._steps] = array

    def piece(self):
        """The batches on the device."""
        if self._arrays is None:
            single = _keras.put(self._alone, stacked=False)
            return Piece(Single(single), 0, 1)
        if self._most > 1:
            arrays = _keras.put(self._arrays, stacked=True)
            return Piece(Stacked(arrays), 0, self._steps)
        batch = jax.tree.map(lambda a: a[0], self._arrays)
        return Piece(Single(_keras.put(batch, stacked=False)), 0, 1)


def _on_device(batch):
    """Whether stacking would copy a batch back from an accelerator."""
    return jax.default_backend() != "cpu" and any(
        isinstance(a, jax.Array) for a in jax.tree.leaves(batch)
    )


def _own(array):
    """A copy of what a source may fill again."""
    # JAX may share the memory of NumPy's arrays, also those of SciPy's sparse
    # ones, which Keras makes JAX's on the CPU.
    dtype = getattr(array, "dtype", None)
    numbers = getattr(dtype, "kind", None) in ("b", "i", "u", "f", "c", "V")
    shared = isinstance(array, jax.Array) and {
        device.platform for device in array.devices()
    } == {"cpu"}
    if isinstance(array, np.ndarray) or (shared and numbers):
        return np.array(array)
    return array
