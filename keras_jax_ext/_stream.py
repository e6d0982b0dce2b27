"""Any source of batches, read ahead by a thread."""

import collections
import threading
import time
from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._data import group_size, is_plain, zeros
from keras_jax_ext._pieces import Piece, Single, Stacked

import jax

# Batches in one super-batch, at most. Fewer than of arrays: all of them are
# waited for.
GROUP = 16
# Super-batches of a stream that wait for the device, at most.
DEPTH = 2
# A stream that has one batch waits so long for more, in seconds.
GRACE = 0.01

SINGLE = "one batch at a time, since they are not dense arrays of numbers."
CHANGING = "batches of one shape at a time, since their shapes change."


def _signature(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, [(a.shape, a.dtype) for a in leaves]


class Stream:
    """A pass over any source of batches, read ahead by a thread.

    The thread stacks batches and puts them on the device while it works. It
    never reads past the steps that `allow` grants: what a generator yields
    next belongs to the next epoch. At most `DEPTH` super-batches wait, one is
    being made and one or two are being run.

    Args:
        batches: Iterable of batches.
        most: Integer, batches in a super-batch at most.
        tell: Function of a line that says why few batches go together.
    """

    def __init__(self, batches, most=GROUP, tell=print):
        self._batches = iter(batches)
        self._most = min(most, GROUP)
        self._tell = tell
        self._why: str | None = None
        self._changes = 0
        self._changed = threading.Condition()
        self._ready: collections.deque[Piece] = collections.deque()
        self._allowed: float = 0
        self._left_over = None
        self._hungry_since: float | None = None
        self._error: BaseException | None = None
        self._busy = False
        self._closed = self._exhausted = self._ended = False
        self._thread: threading.Thread | None = None

    def allow(self, steps):
        """Let the thread read `steps` more batches; all, if `None`."""
        with self._changed:
            self._allowed += float("inf") if steps is None else steps
            self._changes = 0
            self._changed.notify_all()

    def take(self, limit):
        """Return the next piece, of `limit` batches at most.

        An exception of the source is raised here, with its traceback, after
        the batches that came before it.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="keras_jax_ext", daemon=True
            )
            self._thread.start()
        with self._changed:
            self._hungry_since = time.monotonic()
            self._wait(
                lambda: (
                    self._ready
                    or self._ended
                    or not (self._busy or self._allowed)
                )
            )
            self._hungry_since = None
            if not self._ready:
                if self._error:
                    raise self._error
                raise StopIteration
            piece = self._ready.popleft()
            if piece.steps > limit:
                rest = piece.start + limit, piece.steps - limit
                self._ready.appendleft(Piece(piece.data, *rest))
                piece = Piece(piece.data, piece.start, limit)
            self._changed.notify_all()
        if self._why:
            self._tell(self._why)
        return piece

    def close(self):
        """End the thread, once the source returns from its present batch."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not None:
            # A source that never returns must not keep `fit` from ending.
            self._thread.join(timeout=5)

    def _wait(self, condition: Callable[[], Any]):
        while not condition():
            self._changed.wait()

    def _work(self):
        try:
            while self._may_read():
                group = self._collect()
                piece = group.piece() if group else None
                with self._changed:
                    self._ready.extend([piece] if piece else [])
                    self._busy = False
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _may_read(self):
        """Wait until there is leave and room to read, or the end."""
        with self._changed:
            self._wait(
                lambda: (
                    self._closed
                    or self._exhausted
                    or (self._allowed > 0 and len(self._ready) < DEPTH)
                )
            )
            self._busy = not (self._closed or self._exhausted)
            return self._busy

    def _collect(self):
        """Batches of one shape: as many as come before they are wanted."""
        group = None
        while self._allowed > 0 and not (group and group.full):
            if self._left_over is not None:
                batch, self._left_over = self._left_over, None
            else:
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
            since = self._hungry_since
            if since is not None and time.monotonic() - since > GRACE:
                break
        return group

    def _next(self, group):
        """The source's next batch, `None` at its end."""
        try:
            return next(self._batches)
        except StopIteration:
            self._exhausted = True
        except BaseException as error:
            if group is None:
                raise
            # What came before it is still good.
            self._error, self._exhausted = error, True
        return None


class _Group:
    """Batches of one shape, to be stacked.

    They are copied as they come: a source may fill the same arrays again.

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
        self._alone = first

    @property
    def full(self):
        return self._steps == self._most

    def add(self, batch):
        if self._arrays is not None:
            jax.tree.map(self._copy, self._arrays, batch)
        self._steps += 1

    def _copy(self, stacked, array):
        stacked[self._steps] = array

    def piece(self):
        """The batches on the device."""
        if self._steps > 1:
            arrays = _keras.put(self._arrays, stacked=True)
            return Piece(Stacked(arrays), 0, self._steps)
        batch = self._alone
        if self._arrays is not None:
            batch = jax.tree.map(lambda a: a[0], self._arrays)
        return Piece(Single(_keras.put(batch, stacked=False)), 0, 1)


def _on_device(batch):
    """Whether stacking would copy a batch back from an accelerator."""
    return jax.default_backend() != "cpu" and any(
        isinstance(a, jax.Array) for a in jax.tree.leaves(batch)
    )
