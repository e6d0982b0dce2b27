"""Sums on the way, folds, and scans: loops over the first axis of arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def cumsum(
    x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False
) -> jax.Array:
    """Sum the entries up to each one, from either end.

    Example:

    ```python
    kje.keras2.cumsum([1, 2, 3], exclusive=True).tolist()  # [0, 1, 3]
    kje.keras2.cumsum([1, 2, 3], reverse=True).tolist()  # [6, 5, 3]
    ```

    Args:
        x: Array.
        axis: Axis to sum along. Defaults to `0`.
        exclusive: Boolean. Whether an entry itself is left out. Defaults to
            `False`.
        reverse: Boolean. Whether to begin at the end. Defaults to `False`.

    Returns:
        Array of the shape of `x`.
    """
    return _on_the_way(jnp.cumsum, 0, x, axis, exclusive, reverse)


def cumprod(
    x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False
) -> jax.Array:
    """Multiply the entries up to each one, from either end.

    Example:

    ```python
    kje.keras2.cumprod([2, 3, 4], exclusive=True).tolist()  # [1, 2, 6]
    ```

    Args:
        x: Array.
        axis: Axis to multiply along. Defaults to `0`.
        exclusive: Boolean. Whether an entry itself is left out. Defaults to
            `False`.
        reverse: Boolean. Whether to begin at the end. Defaults to `False`.

    Returns:
        Array of the shape of `x`.
    """
    return _on_the_way(jnp.cumprod, 1, x, axis, exclusive, reverse)


def _on_the_way(function, neutral, x, axis, exclusive, reverse):
    x = jnp.asarray(x)
    x = jnp.flip(x, axis) if reverse else x
    if exclusive:
        first = jnp.full_like(jnp.take(x, jnp.array([0]), axis), neutral)
        rest = jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)
        x = jnp.concatenate([first, rest], axis)
    found = function(x, axis=axis)
    return jnp.flip(found, axis) if reverse else found


def gather(
    params: Any, indices: Any, axis: int | None = None, batch_dims: int = 0
) -> jax.Array:
    """Take entries along an axis, for each entry of the first axes.

    Example:

    ```python
    table = np.array([[1, 2, 3], [4, 5, 6]])
    kje.keras2.gather(table, [[0], [2]], batch_dims=1).tolist()  # [[1], [6]]
    ```

    Args:
        params: Array.
        indices: Integers, whose first `batch_dims` axes are those of `params`.
        axis: Axis to take along. Defaults to `batch_dims`.
        batch_dims: How many of the first axes are gone through together.
            Defaults to `0`.

    Returns:
        Array of the shape of `params`, with that of the rest of `indices` in
        the place of the axis.
    """
    params, indices = jnp.asarray(params), jnp.asarray(indices)
    batch_dims = batch_dims % indices.ndim if batch_dims < 0 else batch_dims
    axis = batch_dims if axis is None else axis % params.ndim

    def take(rows, places):
        return jnp.take(rows, places, axis=axis - batch_dims)

    for _ in range(batch_dims):
        take = jax.vmap(take)
    return take(params, indices)


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    reverse: bool = False,
) -> Any:
    """Go through the first axis, and keep each result.

    Example:

    ```python
    kje.keras2.scan(lambda sum, x: sum + x, np.arange(4)).tolist()
    # [0, 1, 3, 6]
    ```

    Args:
        fn: Function of the last result and an entry.
        elems: Array, or a structure of arrays.
        initializer: Result before the first entry. Defaults to the first
            entry, which is then the first result.
        reverse: Boolean. Whether to begin at the end. Defaults to `False`.

    Returns:
        The results, in the structure of one of them.
    """
    first, rest = _begun(elems, initializer, reverse)

    def step(last, entry):
        now = _like(fn(last, entry), last)
        return now, now

    _, found = jax.lax.scan(step, first, rest, reverse=reverse)
    if initializer is not None:
        return found
    return jax.tree.map(
        lambda one, more: jnp.concatenate(
            [more, one[None]] if reverse else [one[None], more]
        ),
        first,
        found,
    )


def foldl(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None
) -> Any:
    """Go through the first axis, and keep the last result.

    Example:

    ```python
    int(kje.keras2.foldl(lambda sum, x: sum + x, np.arange(4)))  # 6
    ```

    Args:
        fn: Function of the last result and an entry.
        elems: Array, or a structure of arrays.
        initializer: Result before the first entry. Defaults to the first
            entry.

    Returns:
        The last result.
    """
    return _folded(fn, elems, initializer, False)


def foldr(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None
) -> Any:
    """Go through the first axis from its end, and keep the last result.

    Example:

    ```python
    int(kje.keras2.foldr(lambda rest, x: 2 * rest + x, np.arange(3)))  # 10
    ```

    Args:
        fn: Function of the last result and an entry.
        elems: Array, or a structure of arrays.
        initializer: Result before the last entry. Defaults to the last entry.

    Returns:
        The last result.
    """
    return _folded(fn, elems, initializer, True)


def _folded(fn, elems, initializer, reverse):
    first, rest = _begun(elems, initializer, reverse)

    def step(last, entry):
        return _like(fn(last, entry), last), None

    return jax.lax.scan(step, first, rest, reverse=reverse)[0]


def _begun(elems, initializer, reverse):
    """The result to begin with, and the entries that are left."""
    elems = jax.tree.map(jnp.asarray, elems)
    if initializer is not None:
        return jax.tree.map(jnp.asarray, initializer), elems
    place = -1 if reverse else 0
    left = slice(None, -1) if reverse else slice(1, None)
    first = jax.tree.map(lambda e: e[place], elems)
    return first, jax.tree.map(lambda e: e[left], elems)


def _like(now, last):
    """A result with the dtypes of the last one, as TensorFlow has it."""
    return jax.tree.map(lambda n, e: jnp.asarray(n, e.dtype), now, last)
