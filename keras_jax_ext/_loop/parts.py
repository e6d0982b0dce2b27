"""Arrays of which each of several processes has a part.

A batch is all that the processes give together, in Keras's own loop too.
"""

import contextlib
import functools
import itertools
from collections.abc import Iterator
from typing import Any

from keras_jax_ext import _keras

import jax
import keras
import numpy as np


def processes() -> tuple[int, ...]:
    """The numbers of the processes that share the model; of one if alone."""
    distribution = keras.distribution.distribution()
    if distribution is None or jax.process_count() == 1:
        return (jax.process_index(),)
    return _processes(distribution.device_mesh.backend_mesh)


@functools.lru_cache
def _processes(mesh):
    found = {each.process_index for each in mesh.devices.flat}
    alone = jax.process_index() not in found
    return (jax.process_index(),) if alone else tuple(sorted(found))


def is_shared() -> bool:
    """Whether several processes share the model."""
    return len(processes()) > 1


def counts() -> tuple[int, int]:
    """Into how many parts a batch is cut, and how many this process has.

    Processes whose devices have the same part give the same rows.
    """
    return _counts(*_mesh())


def _mesh():
    distribution: Any = keras.distribution.distribution()
    return distribution.device_mesh.backend_mesh, distribution.batch_dim_name


@functools.lru_cache
def _counts(mesh, axis):
    owners = np.vectorize(lambda each: each.process_index)(mesh.devices)
    places = np.argwhere(owners == jax.process_index())
    return mesh.shape[axis], len({*places[:, mesh.axis_names.index(axis)]})


def whole_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape of a batch of all processes.

    Args:
        shape: Tuple of integers, of the rows of this process.
        axis: Integer, which axis counts rows.

    Raises:
        ValueError: If its devices cannot share the rows evenly.
    """
    every, own = counts()
    check_even(shape[axis])
    rows = shape[axis] // own * every
    return (*shape[:axis], rows, *shape[axis + 1 :])


def check_even(rows: int) -> None:
    """Raise unless the devices of this process can share rows evenly.

    Args:
        rows: Integer, those that this process gives to a batch.

    Raises:
        ValueError: If not.
    """
    _, own = counts()
    if rows % own:
        raise ValueError(
            "Where several processes share a model, the devices of each share "
            f"its rows of every batch evenly. Received: {rows} rows for {own} "
            "devices. Leave out rows, until the batch size and the rows of the "
            "last batch are multiples of that."
        )


def put(arrays: Any) -> Any:
    """Put each part on the devices that have it.

    Args:
        arrays: Structure of arrays; the first axis counts the parts of this
            process.

    Returns:
        Structure of arrays whose first axis counts the parts of all.
    """
    mesh, axis = _mesh()
    spec = jax.sharding.PartitionSpec(axis)
    sharding = jax.sharding.NamedSharding(mesh, spec)
    every, _ = counts()
    return jax.tree.map(
        lambda a: jax.make_array_from_process_local_data(
            sharding, a, (every, *a.shape[1:])
        ),
        arrays,
    )


def each(function: Any, data: Any, i: Any, lead: int = 0) -> Any:
    """Call a function with each part, on its device, within a program.

    Args:
        function: Function of a part and of `i`, which returns rows of arrays.
        data: Structure of arrays, from `put`.
        i: Integer tracer.
        lead: Integer, how many axes of the results are before that of the
            rows. Defaults to 0.

    Returns:
        What it returns, the rows of all parts one after another.
    """
    mesh, axis = _mesh()
    spec, replicated = jax.sharding.PartitionSpec, jax.sharding.PartitionSpec()

    def own(data, i):
        return function(jax.tree.map(lambda a: a[0], data), i)

    return jax.shard_map(
        own,
        mesh=mesh,
        in_specs=(spec(axis), replicated),
        out_specs=spec(*(None,) * lead, axis),
        check_vma=False,
    )(data, i)


def fetch(arrays: Any) -> Any:
    """Bring to NumPy what this process has of some arrays.

    Args:
        arrays: Structure of arrays of JAX.

    Returns:
        Structure of NumPy arrays. What only other processes have is left out.
    """
    if all(a.is_fully_addressable for a in jax.tree.leaves(arrays)):
        return jax.device_get(arrays)
    return jax.tree.map(_own, arrays)


def _own(array):
    """The shards of this process, side by side as in the whole array."""
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    shards = [
        (
            shard.data,
            [
                cut.indices(n)[:2]
                for cut, n in zip(shard.index, array.shape, strict=True)
            ],
        )
        for shard in array.addressable_shards
    ]
    places = [
        _places({cuts[axis] for _, cuts in shards})
        for axis in range(array.ndim)
    ]
    whole = np.empty(
        [max(s.stop for s in p.values()) for p in places], array.dtype
    )
    for data, cuts in shards:
        where = tuple(
            place[cut] for place, cut in zip(places, cuts, strict=True)
        )
        whole[where] = np.asarray(data)
    return whole


def _places(cuts):
    """Where cuts of an axis lie, if those of other processes are left out."""
    ordered = sorted(cuts)
    ends = [0, *itertools.accumulate(end - first for first, end in ordered)]
    return dict(zip(ordered, map(slice, ends, ends[1:]), strict=False))


def put_back(array: Any, like: jax.Array) -> jax.Array:
    """An array of what `fetch` brought.

    Args:
        array: NumPy array, the part of this process.
        like: Array of the shape and layout that the whole has.
    """
    return jax.make_array_from_process_local_data(
        like.sharding, np.asarray(array, like.dtype), like.shape
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within the block, variables are made for this process alone.

    Keras's saver makes a few to look at them: values of variables that are
    laid out over processes are compared by all of these.
    """
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


@contextlib.contextmanager
def whole(model: Any) -> Iterator[None]:
    """Within the block, this process has all weights of a model.

    Those that are cut between processes are brought from the others, which
    all come here.

    Args:
        model: The model, whose state no loop holds.
    """
    before = [(v, v.value) for v in cut(model)]
    try:
        for variable, value in before:
            _keras.write(variable, _everywhere(value).addressable_data(0))
        yield
    finally:
        for variable, value in before:
            _keras.write(variable, value)


def cut(model: Any) -> list[Any]:
    """The variables of a model of which no process has the whole.

    Args:
        model: The model.
    """
    if not is_shared():
        return []
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *getattr(optimizer, "variables", [])]
    return [v for v in variables if _is_cut(v.value)]


def _is_cut(value):
    return not (value.is_fully_addressable or value.is_fully_replicated)


def own_shape(value: jax.Array) -> tuple[int, ...]:
    """The shape of what `fetch` brings of an array.

    Args:
        value: Array of JAX.
    """
    return _own(value).shape if _is_cut(value) else value.shape


def _everywhere(value):
    spec = jax.sharding.PartitionSpec()
    layout = jax.sharding.NamedSharding(value.sharding.mesh, spec)
    return jax.jit(lambda a: a, out_shardings=layout)(value)
