"""What an own `fit` keeps of how Keras reads data.

Replaced by: a public epoch iterator, and public adapters of arrays.
"""

from typing import Any

import jax
import keras
import numpy as np

# ruff: isort: off
from keras.src.backend.jax.trainer import (
    JAXEpochIterator as StockEpochIterator,
)
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter as ArrayDataAdapter,
)
from keras.src.trainers.data_adapters.array_slicing import (
    train_validation_split as train_validation_split,
)
# ruff: isort: on


class EpochIterator(StockEpochIterator):
    """Keras's count of steps and epochs, over cursors of ours.

    Until `open` is set it yields Keras's own batches: building the model draws
    one, and with it a permutation, exactly as stock Keras does.

    Attributes:
        open: Function without arguments that begins a pass over the data. The
            cursor it returns has `allow(steps)`, `take(limit)` and `runs_code`:
            whether it calls code of the user.
        given: What the caller wants to remember of the arguments.
    """

    open: Any = None
    given: Any = None
    _current_iterator: Any = None

    def _get_iterator(self):
        return self.open() if self.open else super()._get_iterator()

    def executions(self):
        """Yield `(step, steps left or None, cursor)` until an epoch ends.

        Send the number of steps taken. A cursor that runs dry raises
        `StopIteration` in the caller, for `catch_stop_iteration`.
        """
        self.data_adapter.on_epoch_begin()
        total = self.steps_per_epoch or self._num_batches
        if self._current_iterator is None or not self.steps_per_epoch:
            self.close()
            self._current_iterator = self._get_iterator()
            self._steps_seen = 0
        # Whole executions, as Keras counts them.
        every = self.steps_per_execution
        self._current_iterator.allow(total and -(-total // every) * every)
        step, before = 0, self._steps_seen
        while not total or step < total:
            if self._num_batches and self._steps_seen >= self._num_batches:
                if self.steps_per_epoch:
                    self._interrupted_warning()
                break
            left = total - step if total else None
            # Of a source that says no length Keras learns it here, and counts
            # the execution that found no batch: a later pass may be longer.
            self._steps_seen = before + step + every
            step += yield step, left, self._current_iterator
            self._steps_seen = before + step
        if self._num_batches and self._steps_seen >= self._num_batches:
            self.close()
        self.data_adapter.on_epoch_end()

    def close(self):
        """End the pass that is under way."""
        self._current_iterator = None


class Arrays:
    """Arrays as Keras would cut batches from them: converted and weighted.

    Args:
        adapter: The `ArrayDataAdapter` made of them.
        data: Tuple `(x, y, sample_weight)`.
        options: Dict, what else that adapter was made with.
    """

    def __init__(self, adapter, data, options):
        self._given = jax.tree.leaves(data)
        rows = adapter.num_batches * adapter.batch_size
        self._whole = ArrayDataAdapter(*data, batch_size=rows, **options)

    def read(self):
        """Return a structure of all rows, as they are now."""
        rows = next(iter(self._whole.get_jax_iterator()))
        leaves, structure = jax.tree.flatten(rows)
        for i, (given, row) in enumerate(
            zip(self._given, leaves, strict=False)
        ):
            # Keras makes JAX's arrays NumPy's: another copy on the device.
            if isinstance(given, jax.Array) and _looks_like(row, given):
                leaves[i] = given
        return jax.tree.unflatten(structure, leaves)

    def can_change(self):
        """Whether anybody may write into the arrays."""
        return not all(_is_frozen(array) for array in self._given)


def _looks_like(array, other):
    return (array.shape, array.dtype) == (other.shape, other.dtype)


def _is_frozen(array):
    """Whether nobody can write into an array's memory."""
    while isinstance(array, np.ndarray) and not array.flags.writeable:
        array = array.base
    return array is None or isinstance(array, bytes | jax.Array)


def share_epoch(adapter, other):
    """Let another adapter shuffle as this one would now."""
    # Keras 3.15 shuffles by NumPy's stream, 3.16 by the number of the epoch.
    if hasattr(adapter, "_epoch"):
        other._epoch = adapter._epoch


def put(batches, *, stacked):
    """Put arrays where a batch belongs.

    Args:
        batches: Structure of arrays: one batch, or several of them.
        stacked: Boolean, whether their first axis counts batches.
    """
    if keras.distribution.distribution() is None:
        return jax.tree.map(_on_device, batches)
    return jax.tree.map(
        lambda a: jax.device_put(a, _layout(a, int(stacked))), batches
    )


def _on_device(array):
    """An array where a program on the one device can use it."""
    # The memory of a CPU is the device's: programs take NumPy's arrays, at a
    # tenth of the price of `device_put`. Not those that JAX has to convert.
    usable = isinstance(array, np.ndarray) and (
        jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
    )
    if usable and jax.default_backend() == "cpu":
        return array
    return jax.device_put(array)


def put_whole(arrays):
    """Put arrays on every device."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return jax.device_put(arrays)
    mesh = distribution.device_mesh.backend_mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(arrays, everywhere)


def place(batch):
    """Constrain a batch within a program to where `distribution` wants it."""
    if keras.distribution.distribution() is None:
        return batch

    def constrain(array):
        return jax.lax.with_sharding_constraint(array, _layout(array, 0))

    return jax.tree.map(constrain, batch)


def _layout(array, lead):
    """The sharding of a batch behind `lead` axes that are not sharded.

    A batch that the devices cannot share evenly is copied to each.
    """
    distribution = keras.distribution.distribution()
    layout = distribution.get_data_layout(array.shape[lead:])
    sharding = layout.backend_layout
    axes = sharding.spec + (None,) * (array.ndim - lead - len(sharding.spec))
    sizes = [
        sharding.mesh.shape[axis] if axis is not None else 1 for axis in axes
    ]
    if any(n % size for n, size in zip(array.shape[lead:], sizes, strict=True)):
        axes = (None,) * len(axes)
    spec = jax.sharding.PartitionSpec(*(None,) * lead, *axes)
    return jax.sharding.NamedSharding(sharding.mesh, spec)
