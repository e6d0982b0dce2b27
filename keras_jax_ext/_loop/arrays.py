"""Arrays given to `fit` and its like: on the device, or in blocks."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import device, parts
from keras_jax_ext._loop.batches import (
    DrawnOnce,
    Orders,
    Parts,
    Rows,
    Single,
    Span,
    Stacked,
)

import jax
import keras
import numpy as np

# The most batches in a block, and its bytes: enough to share a call's cost.
BLOCK_BATCHES, BLOCK_BYTES = 64, 64 * 2**20
# The most batches that are gathered at once, and their bytes. If fewer than
# MIN_GATHERED fit, each is gathered alone: for large rows the second copy
# costs more than it saves.
GATHERED, GATHERED_BYTES = 128, 2**18
MIN_GATHERED = 8
# Arrays of fewer rows and bytes have one length on the device.
SHORT_ROWS, SHORT_BYTES = 512, 2**16


def is_plain(data: Any) -> bool:
    """Whether every leaf is a dense array of numbers.

    Args:
        data: Structure of arrays.
    """
    # Keras's tree: for JAX's, a sparse array is a structure of dense ones.
    return all(
        isinstance(a, np.ndarray | jax.Array) and a.dtype.kind in "biufcV"
        for a in keras.tree.flatten(data)
        if a is not None
    )


class Arrays:
    """Arrays as Keras cuts batches from them: converted and weighted.

    Args:
        adapter: The `ArrayDataAdapter` that Keras made of them.
        data: Tuple `(x, y, sample_weight)`.
        class_weight: As in `fit`.
    """

    def __init__(
        self,
        adapter: Any,
        data: tuple[Any, Any, Any],
        class_weight: Mapping[int, float] | None,
    ) -> None:
        self._given = jax.tree.leaves(data)
        # One batch of all rows.
        self._whole = _keras.ArrayDataAdapter(
            *data,
            batch_size=adapter.num_batches * adapter.batch_size,
            class_weight=class_weight,
        )

    def read(self) -> Any:
        """Return a structure of all rows, as they are now."""
        rows = next(iter(self._whole.get_jax_iterator()))
        leaves, structure = jax.tree.flatten(rows)
        for i, (given, row) in enumerate(
            zip(self._given, leaves, strict=False)
        ):
            # Keras turns JAX's arrays into NumPy's, which would be put on the
            # device a second time.
            if isinstance(given, jax.Array) and _looks_like(row, given):
                leaves[i] = given
        return jax.tree.unflatten(structure, leaves)

    def can_change(self) -> bool:
        """Whether anybody may write into the arrays."""
        return not all(_is_frozen(array) for array in self._given)


def _looks_like(array, other):
    return (array.shape, array.dtype) == (other.shape, other.dtype)


def _is_frozen(array):
    """Whether nobody can write into an array's memory."""
    while isinstance(array, np.ndarray) and not array.flags.writeable:
        array = array.base
    return array is None or isinstance(array, bytes | jax.Array)


def _rounded(rows):
    """Few different lengths, so that programs are compiled for few."""
    unit = 1 << max(0, rows.bit_length() - 5)
    return -(-rows // unit) * unit


def _length(rows):
    """The length of arrays on the device; one for all short ones."""
    count = jax.tree.leaves(rows)[0].shape[0]
    row = max(1, device.size_in_bytes(rows) // max(1, count))
    return max(_rounded(count), min(SHORT_ROWS, SHORT_BYTES // row))


def program_key(rows: Any, size: int) -> tuple[Any, Any]:
    """What a program over resident arrays is compiled for.

    Args:
        rows: Structure of all rows.
        size: Integer, rows of a batch.

    Returns:
        Pair of hashables: the shapes of a batch, and the lengths of arrays.
    """
    leaves, structure = jax.tree.flatten(rows)
    length = _length(rows)
    lengths = tuple(
        a.shape[0] if isinstance(a, jax.Array) else length for a in leaves
    )
    batch = tuple((a.shape[1:], str(a.dtype)) for a in leaves)
    return (structure, batch, size), (length, lengths)


class Resident:
    """Arrays on the device, put there once and read by row numbers.

    The permutation is Keras's own: a second adapter of Keras's shuffles the
    row numbers. It draws from the same stream, and when Keras would draw for
    the rows.

    Args:
        adapter: Keras's `ArrayDataAdapter` of the arrays.
        rows: Structure of all rows.
        shuffle: As in `fit`.
        most: Integer, the most batches of one execution.
        again: Function that returns the rows anew where somebody may have
            changed them since the last epoch, else `None`.
        orders: `Orders`, in place of Keras's order. Defaults to `None`.
    """

    def __init__(
        self,
        adapter: Any,
        rows: Any,
        shuffle: bool | str,
        most: int,
        again: Callable[[], Any] = lambda: None,
        orders: Orders | None = None,
    ) -> None:
        self._adapter = adapter
        self._orders = orders
        self._rows, self._again = rows, again
        self.rows = jax.tree.leaves(rows)[0].shape[0]
        # If the data are fewer rows than a batch, no whole batch is traced.
        self.size = min(adapter.batch_size, self.rows)
        length = _length(rows)
        batch = max(1, device.size_in_bytes(rows) // self.rows * self.size)
        batch *= orders.columns if orders else 1
        fit, steps = GATHERED_BYTES // batch, -(-length // self.size)
        gathers = fit >= MIN_GATHERED
        self._width = min(most, GATHERED, fit, steps) if gathers else 1
        self._length = length
        self._arrays: Any = None
        # The last block may reach behind the last row.
        length += self._width * self.size
        self._order = device.padded(np.arange(self.rows, dtype="int32"), length)
        self._numbers = None
        if shuffle:
            whole = shuffle != "batch"
            self._numbers = _keras.ArrayDataAdapter(
                self._order[: self.rows],
                # To shuffle all rows, Keras draws once for all of them.
                batch_size=self.rows if whole else self.size,
                shuffle=shuffle,
            )

    def open(self) -> "_RowCursor":
        """Begin a pass."""
        return _RowCursor(self)

    def data(self, order: jax.Array, whole: bool = True) -> Rows | Parts:
        """Return the rows.

        Args:
            order: Array, from `put_order`.
            whole: Boolean, whether the smaller batch at the end is wanted.
        """
        left = self.rows % self.size if whole else 0
        if not parts.is_shared():
            return Rows(self._put(), order, self.size, left, self._width)
        own = parts.counts()[1]
        size, left = self.size // own, left // own
        return Parts(Rows(self._put(), order, size, left, self._width))

    @property
    def shuffles(self) -> bool:
        """Whether `draw` draws random numbers."""
        return bool(self._orders or self._numbers)

    def draw(self) -> np.ndarray:
        """Draw the order of a pass."""
        if self._orders:
            return self.padded(self._orders(self.rows))
        if not self._numbers:
            return self._order
        number = _keras.epoch_number(self._adapter)
        _keras.set_epoch_number(self._numbers, number)
        drawn: Any = jax.tree.leaves(list(self._numbers.get_numpy_iterator()))
        drawn = drawn[0] if len(drawn) == 1 else np.concatenate(drawn)
        return self.padded(drawn)

    def padded(self, order: np.ndarray) -> np.ndarray:
        """An order with as many more row numbers as a block may reach."""
        return device.padded(order, len(self._order))

    def put_order(self, drawn: np.ndarray) -> jax.Array:
        """Put the order of a pass on the device."""
        if not device.is_distributed():
            return device.usable(drawn)
        if not parts.is_shared():
            return device.put_whole(drawn)
        own = parts.counts()[1]
        return parts.put(_dealt(drawn, self.rows, self.size, own))

    def _put(self):
        rows = self._again()
        if rows is None:
            rows, self._rows = self._rows, None
        if rows is not None:
            self._arrays = None  # frees the device's memory before the copy
            rows = jax.tree.map(lambda a: device.padded(a, self._length), rows)
            self._arrays = _put_for_each(rows)
        return self._arrays


def _put_for_each(rows):
    """Put rows on each device: of all processes' batches, or of this one's."""
    if not parts.is_shared():
        return device.put_whole(rows)
    own = parts.counts()[1]
    return parts.put(
        jax.tree.map(
            lambda a: np.broadcast_to(np.asarray(a), (own, *a.shape)), rows
        )
    )


def _dealt(order, rows, size, own):
    """Row numbers for each part: of every batch, its share.

    Args:
        order: Array of row numbers, and more.
        rows: Integer, how many there are.
        size: Integer, rows of a batch.
        own: Integer, how many parts.
    """
    order = np.asarray(order)
    ends, left = rows - rows % size, order[rows:]
    whole = order[:ends].reshape(-1, own, size // own, *order.shape[1:])
    shares = [
        whole.swapaxes(0, 1).reshape(own, -1, *order.shape[1:]),
        order[ends:rows].reshape(own, -1, *order.shape[1:]),
    ]
    # As many more for each as the block that reaches behind the last row.
    more = -(-len(left) // own)
    shares.append(np.zeros((own, more, *order.shape[1:]), order.dtype))
    return np.concatenate(shares, axis=1)


class _RowCursor(DrawnOnce):
    """A position in one pass over resident arrays."""

    runs_code = False

    def __init__(self, source) -> None:
        self._source = source
        self._step = 0
        self._whole = True
        # The order of the rows, as it was drawn and on the device.
        self._drawn: Any = None
        self._order: Any = None
        self._data: Any = None

    def allow(self, steps: int | None) -> None:
        source = self._source
        left = -(-source.rows // source.size) - self._step
        self._whole = steps is None or steps >= left
        # Put on the device by the first `take`: a callback at the beginning of
        # an epoch may still change the arrays.
        self._data = None

    def take(self, limit: int) -> Span:
        rows, size = self._source.rows, self._source.size
        left = -(-rows // size) - self._step
        if left <= 0:
            raise StopIteration
        if self._data is None:
            self._data = self._read()
        steps = min(limit, left)
        tail = steps == left and rows % size > 0
        span = Span(self._data, self._step, steps, tail)
        self._step += steps
        return span

    def _read(self):
        if self._drawn is None:
            self._drawn = self._source.draw()
        if self._order is None:
            self._order = self._source.put_order(self._drawn)
        return self._source.data(self._order, self._whole)

    def place(self) -> Any:
        # The order itself: to note the streams before each draw takes 50 us.
        source = self._source
        return self._drawn[: source.rows] if source.shuffles else None

    def skip(self, steps: int, place: Any = None) -> None:
        self._step = steps
        if place is not None:
            self._drawn = self._source.padded(place)
        elif steps:
            # A callback that acted on batches had them read one by one: their
            # order is that of the streams as they are now.
            self._drawn = self._source.draw()


class Blocks:
    """A cursor over arrays that are cut into blocks of batches, in order.

    The shape of a block does not depend on the number of rows, so that arrays
    of any length share one program. The smaller batch at the end has its own.

    Args:
        rows: Structure of all rows.
        size: Integer, rows of a batch.
    """

    runs_code = False

    def __init__(self, rows: Any, size: int) -> None:
        self._rows = rows
        self._size = size
        self._count = jax.tree.leaves(rows)[0].shape[0]
        self._full = self._count // size
        self._batches = block_batches(self._cut(0, min(size, self._count)))
        self._step = 0
        self._block: Any = None

    def allow(self, steps: int | None) -> None:
        """Any number of steps may be read: arrays lose nothing."""

    def take(self, limit: int) -> Span:
        step, at = self._step, self._step % self._batches
        if step * self._size >= self._count:
            raise StopIteration
        if step == self._full:
            self._step += 1
            last = self._cut(step * self._size, self._count)
            return Span(Single(device.put(last, stacked=False)), 0, 1)
        if at == 0:
            self._block = self._stack(step)
        steps = min(limit, self._full - step, self._batches - at)
        self._step += steps
        return Span(Stacked(self._block), at, steps)

    def _cut(self, first, end):
        return jax.tree.map(lambda a: a[first:end], self._rows)

    def _stack(self, first):
        size, batches = self._size, self._batches
        end = min(first + batches, self._full)

        def stack(array):
            array = device.roomy(np.asarray(array), batches * size)
            return array.reshape(batches, size, *array.shape[1:])

        rows = self._cut(first * size, end * size)
        return device.put(jax.tree.map(stack, rows), stacked=True)


def block_batches(batch: Any) -> int:
    """How many batches like this one make a block.

    Args:
        batch: Structure of arrays.
    """
    bytes_each = max(1, device.size_in_bytes(batch))
    return max(1, min(BLOCK_BATCHES, BLOCK_BYTES // bytes_each))


def kinds(batch: Any, rows: int, size: int, steps: int) -> list[Span]:
    """A span of each kind that `Blocks` has, with the first batch alone.

    Args:
        batch: Structure of arrays, the first batch.
        rows: Integer, the rows of all batches.
        size: Integer, the rows of a batch.
        steps: Integer, the steps of a pass.

    Returns:
        List of `Span`; empty if they are not known.
    """
    if not is_plain(batch):
        return []
    full, rest = divmod(rows, size)
    counts = [size] * (full > 0) + [rest] * (rest > 0 and steps > full)
    cut = (jax.tree.map(lambda a, n=n: a[:n], batch) for n in counts)
    return [Blocks(each, size).take(1) for each in cut]
