"""Sources that hand out many batches at a time, already on the device."""

import math
import os
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._pieces import Piece, Rows, Single, Stacked

import jax
import keras
import numpy as np

# Batches in one super-batch, at most: enough to share the cost of a call.
GROUP = 64
# Batches that are gathered at once, and their bytes, at most; and how many
# must fit to be worth a second copy: large rows are gathered fast one by one.
WIDTH = 128
WIDTH_BYTES = 2**18
WORTH = 8
GROUP_BYTES = 64 * 2**20


def is_plain(data):
    """Whether every leaf is a dense array of numbers."""
    # Keras's tree: to JAX's, a sparse array is a structure of dense ones.
    return all(
        isinstance(a, np.ndarray | jax.Array) and a.dtype.kind in "biufcV"
        for a in keras.tree.flatten(data)
        if a is not None
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


def zeros(shape, dtype):
    """NumPy's zeros, where a CPU device can use them without a copy."""
    # JAX does so with memory that starts at a multiple of 64 bytes.
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + 64, "uint8")
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def padded(array, rows):
    """`array` with zeros behind, to a length of `rows`."""
    missing = rows - array.shape[0]
    if not missing:
        return array
    shape = rows, *array.shape[1:]
    if isinstance(array, jax.Array):
        filler = jax.numpy.zeros((missing, *shape[1:]), array.dtype)
        return jax.numpy.concatenate([array, filler])
    longer = zeros(shape, array.dtype)
    longer[: array.shape[0]] = array
    return longer


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
        self._adapter = adapter
        self.size = adapter.batch_size
        self.rows = jax.tree.leaves(rows)[0].shape[0]
        length = rounded(self.rows)
        batch = max(1, size_in_bytes(rows) // self.rows * self.size)
        fit, steps = WIDTH_BYTES // batch, -(-length // self.size)
        self._width = min(most, WIDTH, fit, steps) if fit >= WORTH else 1
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
            _keras.share_epoch(self._adapter, self._numbers)
            drawn: Any = jax.tree.leaves(
                list(self._numbers.get_numpy_iterator())
            )
            drawn = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
            order = padded(drawn, len(order))
        left = self.rows % self.size
        order = _keras.put_whole(order)
        return Rows(self._arrays, order, self.size, left, self._width)


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
