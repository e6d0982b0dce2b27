"""Sources that hand out many batches at a time, already on the device."""

import collections
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import Piece, Rows, Single, Stacked

import jax
import numpy as np

# Batches in one super-batch, at most: enough to share the cost of a call. Of a
# stream fewer, since all of them are waited for.
GROUP = 64
WIDTH = 16
STREAM_GROUP = 16
GROUP_BYTES = 64 * 2**20
# Super-batches of a stream that wait for the device, at most.
DEPTH = 2
# A stream that has one batch waits so long for more, in seconds.
GRACE = 0.01


def is_plain(data):
    """Whether every leaf is a dense array of numbers."""
    return all(
        isinstance(a, np.ndarray | jax.Array) and a.dtype.kind in "biufcV"
        for a in jax.tree.leaves(data)
    )


def size_in_bytes(data):
    """Bytes of all leaves."""
    return sum(a.nbytes for a in jax.tree.leaves(data))


def fits(data, fraction):
    """Whether arrays take at most a fraction of the device's memory."""
    stats = jax.devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit")
    if total is None:  # A CPU does not say.
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return size_in_bytes(data) <= fraction * total


def padded(array, rows):
    """`array` with zeros behind, to a length of `rows`."""
    missing = rows - array.shape[0]
    if not missing:
        return array
    xp: Any = jax.numpy if isinstance(array, jax.Array) else np
    filler = xp.zeros((missing, *array.shape[1:]), array.dtype)
    return xp.concatenate([array, filler])


def rounded(rows):
    """Few different lengths, so that programs are compiled for few."""
    unit = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // unit) * unit


class Resident:
    """Arrays put on the device once, read by permuted row numbers.

    The permutation is Keras's own: a second adapter of Keras's shuffles the
    row numbers, drawing from the same stream at the same moments as it would
    for the rows.

    Args:
        adapter: Keras's `ArrayDataAdapter` of the arrays.
        rows: Structure of all rows.
        shuffle: As in `fit`.
        most: Integer, batches of one execution at most.
    """

    def __init__(self, adapter, rows, shuffle, most):
        self.size = adapter.batch_size
        self._width = min(most, WIDTH)
        self.rows = jax.tree.leaves(rows)[0].shape[0]
        length = rounded(self.rows)
        self._arrays = _keras.put_whole(
            jax.tree.map(lambda a: padded(a, length), rows)
        )
        # The last block may reach behind the last row.
        length += self._width * self.size
        self._order = padded(np.arange(self.rows, dtype="int32"), length)
        self._numbers = None
        if shuffle:
            whole = shuffle != "batch"
            self._numbers = _keras.ArrayDataAdapter(
                self._order[: self.rows],
                # Shuffled whole, one draw of all rows is what Keras makes.
                batch_size=self.rows if whole else self.size,
                shuffle=shuffle,
            )
            _follow_epochs(adapter, self._numbers)

    def open(self):
        """Begin a pass.

        Returns:
            A cursor.
        """
        return _RowCursor(self)

    def data(self):
        """Return the rows in the order of a new pass."""
        order = self._order
        if self._numbers:
            drawn: Any = jax.tree.leaves(
                list(self._numbers.get_numpy_iterator())
            )
            drawn = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
            order = padded(drawn, len(order))
        left = self.rows % self.size
        order = _keras.put_whole(order)
        return Rows(self._arrays, order, self.size, left, self._width)


def _follow_epochs(adapter, follower):
    """Let an adapter end its epochs with those of another."""
    end = adapter.on_epoch_end

    def both():
        end()
        follower.on_epoch_end()

    adapter.on_epoch_end = both


class _RowCursor:
    """A position in one pass over resident arrays."""

    def __init__(self, source):
        self._source = source
        self._data = None
        self._step = 0

    def allow(self, steps):
        """Any number of steps may be read ahead: nothing is consumed."""

    def close(self):
        """Nothing runs in the background."""

    def take(self, limit):
        """Return the next piece, of `limit` batches at most."""
        rows, size = self._source.rows, self._source.size
        left = -(-rows // size) - self._step
        if left <= 0:
            raise StopIteration
        if self._data is None:
            self._data = self._source.data()
        steps = min(limit, left)
        rest = steps == left and rows % size > 0
        piece = Piece(self._data, self._step, steps, rest)
        self._step += steps
        return piece


class Blocks:
    """Arrays cut into super-batches, in their order.

    The shape of a super-batch does not depend on the number of rows, so that
    arrays of any length share one program.

    Args:
        rows: Structure of all rows.
        size: Integer, rows of a batch.
    """

    def __init__(self, rows, size):
        self._rows = rows
        self._size = size
        count = jax.tree.leaves(rows)[0].shape[0]
        self._full, self._steps = count // size, -(-count // size)
        self._group = group_size(self._cut(0, min(size, count)))
        self._step = 0
        self._block: Any = None
        self._last = None
        if self._steps > self._full:
            last = self._cut(self._full * size, count)
            self._last = _keras.put(last, stacked=False)

    def allow(self, steps):
        """Any number of steps may be read ahead: nothing is consumed."""

    def close(self):
        """Nothing runs in the background."""

    def take(self, limit):
        """Return the next piece, of `limit` batches at most."""
        left = self._steps - self._step
        if left <= 0:
            raise StopIteration
        if not self._full:
            self._step = 1
            return Piece(Single(self._last), 0, 1)
        at = self._step % self._group
        if self._block is None or (at == 0 and self._step < self._full):
            self._block = self._stack(self._step - at)
        # The smaller batch goes with the block before it.
        room = self._group - at if self._step < self._full else 0
        ends = left - room <= 1 and self._last is not None
        steps = min(limit, left, room + ends)
        rest = ends and steps == left
        piece = Piece(Stacked(self._block, self._last), at, steps, rest)
        self._step += steps
        return piece

    def _cut(self, first, end):
        return jax.tree.map(lambda a: a[first:end], self._rows)

    def _stack(self, first):
        size, group = self._size, self._group
        end = min(first + group, self._full)

        def stack(array):
            array = padded(np.asarray(array), group * size)
            return array.reshape(group, size, *array.shape[1:])

        rows = self._cut(first * size, end * size)
        return _keras.put(jax.tree.map(stack, rows), stacked=True)


def group_size(batch):
    """How many batches like this one make a super-batch."""
    return max(1, min(GROUP, GROUP_BYTES // max(1, size_in_bytes(batch))))


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
    """

    def __init__(self, batches, most=STREAM_GROUP):
        self._batches = iter(batches)
        self._most = min(most, STREAM_GROUP)
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
            self._changed.notify_all()

    def take(self, limit):
        """Return the next piece, of `limit` batches at most.

        An exception of the source is raised here, with its traceback, after
        the batches that came before it.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
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
                piece = self._piece(group) if group else None
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
        group: list[Any] = []
        most = self._most
        while self._allowed > 0 and len(group) < most:
            if self._left_over is not None:
                batch, self._left_over = self._left_over, None
            else:
                batch = self._next(group)
                if batch is None:
                    break
            if group and _signature(batch) != _signature(group[0]):
                self._left_over = batch
                break
            if not group:
                stackable = is_plain(batch) and not _on_device(batch)
                most = min(most, group_size(batch)) if stackable else 1
            group.append(batch)
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
            if not group:
                raise
            # What came before it is still good.
            self._error, self._exhausted = error, True
        return None

    def _piece(self, group):
        if len(group) == 1:
            return Piece(Single(_keras.put(group[0], stacked=False)), 0, 1)
        return Piece(Stacked(self._stack(group)), 0, len(group))

    def _stack(self, group):
        """One array of all batches, as long as the largest group's."""
        length = min(self._most, group_size(group[0]))
        stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *group)
        return _keras.put(
            jax.tree.map(lambda a: padded(a, length), stacked), stacked=True
        )


def _on_device(batch):
    """Whether stacking would copy a batch back from an accelerator."""
    return jax.default_backend() != "cpu" and any(
        isinstance(a, jax.Array) for a in jax.tree.leaves(batch)
    )
