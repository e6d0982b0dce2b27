"""Where arrays live: the backend, shardings, and the memory that is free.

Every question about the device is asked here.
"""

import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_jax_ext._loop import parts

import jax
import keras
import numpy as np

# Files in which Linux says what a container may use: control groups of
# version 2, and of version 1.
LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# JAX shares the memory of a NumPy array that starts at a multiple of this.
ALIGNMENT = 64


def backend() -> str:
    """The kind of the devices that programs run on: `"cpu"`, `"gpu"`..."""
    return jax.default_backend()


def is_cpu() -> bool:
    """Whether programs run on the CPU, in the memory of NumPy's arrays."""
    return backend() == "cpu"


def is_distributed() -> bool:
    """Whether `keras.distribution` spreads arrays over several devices."""
    return keras.distribution.distribution() is not None


def put(batches: Any, *, stacked: bool) -> Any:
    """Put arrays where a batch belongs.

    Args:
        batches: Structure of arrays: one batch, or several of them. Where
            several processes share the model, each gives its rows.
        stacked: Boolean, whether their first axis counts batches.

    Returns:
        Structure of arrays that a program can use.
    """
    if not is_distributed():
        return jax.tree.map(usable, batches)
    if parts.is_shared():
        return jax.tree.map(lambda a: _put_rows(a, int(stacked)), batches)
    return jax.tree.map(
        lambda a: jax.device_put(a, _layout(a, int(stacked))), batches
    )


def usable(array: Any) -> Any:
    """Put an array where a program on one device finds it.

    Args:
        array: Array of NumPy or JAX, which nobody writes to.

    Returns:
        Array. On a CPU programs take NumPy's as they are, at a tenth of the
        price of `device_put`; but not dtypes that JAX has to convert.
    """
    converts = not isinstance(array, np.ndarray) or (
        jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype
    )
    return jax.device_put(array) if converts or not is_cpu() else array


def _put_rows(array, lead):
    """The rows of all processes as one array, of which this gives some."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return array  # a user made it of all
    array = np.asarray(array)
    shape = parts.whole_shape(array.shape, lead)
    whole = jax.ShapeDtypeStruct(shape, array.dtype)
    return jax.make_array_from_process_local_data(
        _layout(whole, lead), array, shape
    )


def put_whole(arrays: Any) -> Any:
    """Put arrays on every device.

    Args:
        arrays: Structure of arrays.

    Returns:
        Structure of JAX arrays.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return jax.device_put(arrays)
    mesh = distribution.device_mesh.backend_mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(arrays, everywhere)


def put_like(array: Any, other: jax.Array) -> Any:
    """Put an array where another one is.

    Args:
        array: Array of NumPy or JAX; of several processes, the part of this.
        other: Array, of the same shape.

    Returns:
        Array. Where several devices share it, none ever has all of it.
    """
    return parts.put_back(array, other) if is_distributed() else array


def place(batch: Any, lead: int = 0) -> Any:
    """Constrain a batch within a program to where `distribution` wants it.

    Args:
        batch: Structure of arrays or tracers.
        lead: Integer, how many axes are before that of the rows. Defaults to
            0.

    Returns:
        The batch.
    """
    if not is_distributed():
        return batch

    def constrain(array):
        return jax.lax.with_sharding_constraint(array, _layout(array, lead))

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


def shardings(groups: Sequence[Sequence[Any]]) -> Any:
    """The shardings of groups of variables, which a step keeps.

    Args:
        groups: Lists of variables.

    Returns:
        Tuple of lists of shardings; `None` on one device.
    """
    if not is_distributed():
        return None
    return tuple([v.value.sharding for v in group] for group in groups)


def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Make NumPy zeros that a CPU device uses without a copy.

    Args:
        shape: Tuple of integers.
        dtype: A dtype of NumPy.

    Returns:
        Array.
    """
    return _aligned(np.zeros, shape, dtype)


def _aligned(make, shape, dtype):
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = make(size + ALIGNMENT, "uint8")
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def padded(array: Any, rows: int) -> Any:
    """Put zeros behind the rows of an array.

    Args:
        array: Array of shape `(count, ...)`.
        rows: Integer, the length to reach.

    Returns:
        Array of shape `(rows, ...)`. An array of JAX is returned as it is: a
        second copy would take the user's device memory twice.
    """
    return _longer(np.zeros, array, rows)


def roomy(array: Any, rows: int) -> Any:
    """As `padded`, with anything behind the rows, which nobody reads.

    To write zeros there may take longer than to copy the rows.
    """
    return _longer(np.empty, array, rows)


def _longer(make, array, rows):
    if rows == array.shape[0] or isinstance(array, jax.Array):
        return array
    longer = _aligned(make, (rows, *array.shape[1:]), array.dtype)
    longer[: array.shape[0]] = array
    return longer


def must_stay(batch: Any) -> bool:
    """Whether stacking a batch on the host would copy it from the device.

    Args:
        batch: Structure of arrays.
    """
    return not is_cpu() and any(
        isinstance(a, jax.Array) for a in jax.tree.leaves(batch)
    )


def copied(array: Any) -> Any:
    """Copy an array whose memory somebody else may write to.

    Args:
        array: Array of any kind.

    Returns:
        A NumPy array, or `array` itself where nobody can write to it.
    """
    # JAX may share the memory of NumPy's arrays. Keras turns SciPy's sparse
    # arrays into JAX's on the CPU, which share theirs too.
    dtype = getattr(array, "dtype", None)
    numbers = getattr(dtype, "kind", None) in ("b", "i", "u", "f", "c", "V")
    shared = isinstance(array, jax.Array) and {
        device.platform for device in array.devices()
    } == {"cpu"}
    if isinstance(array, np.ndarray) or (shared and numbers):
        return np.array(array)
    return array


def size_in_bytes(data: Any) -> int:
    """The bytes of all arrays of a structure.

    Args:
        data: Structure of arrays.
    """
    return sum(a.nbytes for a in jax.tree.leaves(data))


def fits(data: Any, fraction: float) -> bool:
    """Whether arrays take at most a fraction of the device's memory.

    Args:
        data: Structure of arrays. Those of JAX are on the device already and
            take nothing.
        fraction: Float, from 0 to 1.
    """
    needed = sum(
        a.nbytes for a in jax.tree.leaves(data) if not isinstance(a, jax.Array)
    )
    stats = jax.local_devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit")
    if total is None:  # A CPU does not say.
        return needed <= fraction * host_memory()
    free = total - stats.get("bytes_in_use", 0)
    return needed <= min(fraction * total, free)


@functools.cache
def host_memory() -> float:
    """Bytes of memory that this process may use; infinity if unknown."""
    found = [float("inf")]
    try:
        pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        found.append(pages[0] * pages[1])
    except (AttributeError, OSError, ValueError):  # as on Windows
        pass
    for path in LIMITS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or it says "max"
            continue
    return min(found)
