"""Sources that hand out many batches at a time, already on the device."""

import functools
import math
from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.batches import Piece, Rows, Single, Stacked

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
# Rows and bytes up to which arrays have one length on the device.
FEW, FEW_BYTES = 512, 2**16


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


def zeros(shape, dtype):
    """NumPy's zeros, where a CPU device can use them without a copy."""
    # JAX does so with memory that starts at a multiple of 64 bytes.
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + 64, "uint8")
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def padded(array, rows):
    """NumPy's `array` with zeros behind, to a length of `rows`."""
    missing = rows - array.shape[0]
    if not missing or isinstance(array, jax.Array):
        # What the user has on the device is not worth a second copy there.
        return array
    longer = zeros((rows, *array.shape[1:]), array.dtype)
    longer[: array.shape[0]] = array
    return longer


def rounded(rows):
    """Few different lengths, so that programs are compiled for few."""
    unit = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // unit) * unit


def capacity(rows):
    """The length of arrays on the device: few arrays have all the same."""
    count = jax.tree.leaves(rows)[0].shape[0]
    row = max(1, size_in_bytes(rows) // max(1, count))
    return max(rounded(count), min(FEW, FEW_BYTES // row))


def shapes(rows, size):
    """What a program depends on: shapes of a batch, and lengths of arrays."""
    leaves, structure = jax.tree.flatten(rows)
    length = capacity(rows)
    lengths = tuple(
        a.shape[0] if isinstance(a, jax.Array) else length for a in leaves
    )
    batch = tuple((a.shape[1:], str(a.dtype)) for a in leaves)
    return (structure, batch, size), (length, lengths)


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
        again: Function that returns the rows anew where somebody may have
            changed them since the last epoch, else `None`.
    """

    def __init__(
        self,
        adapter: Any,
        rows: Any,
        shuffle: bool | str,
        most: int,
        again: Callable[[], Any] = lambda: None,
    ):
        self._adapter = adapter
        self._rows, self._again = rows, again
        self.rows = jax.tree.leaves(rows)[0].shape[0]
        # No batch is larger than the data, and none is traced that is not met.
        self.size = min(adapter.batch_size, self.rows)
        length = capacity(rows)
        batch = max(1, size_in_bytes(rows) // self.rows * self.size)
        fit, steps = WIDTH_BYTES // batch, -(-length // self.size)
        self._width = min(most, WIDTH, fit, steps) if fit >= WORTH else 1
        self._length = length
        self._arrays: Any = None
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

    def data(self, order: Any = None, whole: bool = True):
        """Return the rows, in the order of a new pass.

        Args:
            order: The order of a pass that goes on. Defaults to `None`.
            whole: Boolean, whether the smaller batch at the end is wanted.
        """
        if order is None:
            order = _keras.put_whole(self._draw())
        left = self.rows % self.size if whole else 0
        return Rows(self._put(), order, self.size, left, self._width)

    def _draw(self):
        if not self._numbers:
            return self._order
        _keras.share_epoch(self._adapter, self._numbers)
        drawn: Any = jax.tree.leaves(list(self._numbers.get_numpy_iterator()))
        drawn = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
        return padded(drawn, len(self._order))

    def _put(self):
        rows = self._again()
        if rows is None:
            rows, self._rows = self._rows, None
        if rows is not None:
            self._arrays = None  # not two of them at once
            self._arrays = _keras.put_whole(
                jax.tree.map(lambda a: padded(a, self._length), rows)
            )
        return self._arrays


class _RowCursor:
    """A position in one pass over resident arrays."""

    runs_code = False

    def __init__(self, source):
        self._source = source
        self._data: Any = None
        self._step = 0

    def allow(self, steps: int | None):
        """Begin an epoch of so many steps; of all, if `None`."""
        source = self._source
        left = -(-source.rows // source.size) - self._step
        order = self._data and self._data.order
        whole = steps is None or steps >= left
        self._begin = functools.partial(source.data, order, whole)
        self._data = None

    def take(self, limit: int):
        """Return the next piece, of `limit` batches at most."""
        rows, size = self._source.rows, self._source.size
        left = -(-rows // size) - self._step
        if left <= 0:
            raise StopIteration
        if self._data is None:
            self._data = self._begin()
        steps = min(limit, left)
        rest = steps == left and rows % size > 0
        piece = Piece(self._data, self._step, steps, rest)
        self._step += steps
        return piece


class Blocks:
    """Arrays cut into super-batches, in their order.

    The shape of a super-batch does not depend on the number of rows, so that
    arrays of any length share one program; the smaller batch at the end has
    its own.

    Args:
        rows: Structure of all rows.
        size: Integer, rows of a batch.
    """

    runs_code = False

    def __init__(self, rows: Any, size: int):
        self._rows = rows
        self._size = size
        self._count = jax.tree.leaves(rows)[0].shape[0]
        self._full = self._count // size
        self._group = group_size(self._cut(0, min(size, self._count)))
        self._step = 0
        self._block: Any = None

    def allow(self, steps: int | None):
        """Any number of steps may be read ahead: nothing is consumed."""

    def take(self, limit: int):
        """Return the next piece, of `limit` batches at most."""
        step, at = self._step, self._step % self._group
        if step * self._size >= self._count:
            raise StopIteration
        if step == self._full:
            self._step += 1
            last = self._cut(step * self._size, self._count)
            return Piece(Single(_keras.put(last, stacked=False)), 0, 1)
        if at == 0:
            self._block = self._stack(step)
        steps = min(limit, self._full - step, self._group - at)
        self._step += steps
        return Piece(Stacked(self._block), at, steps)

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
