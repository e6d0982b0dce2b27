"""Sums and means of the entries that count, in compiled code."""

from typing import Any

import jax
import jax.numpy as jnp


def masked_sum(x: Any, mask: Any) -> jax.Array:
    """The sum of the entries for which a mask is true.

    As that of `kje.keras2.boolean_mask`, in a compiled function, too.

    Example:

    ```python
    losses = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert kje.keras2.masked_sum(losses, losses > 1) == 9.0
    assert kje.keras2.masked_sum(losses, [False, True]) == 7.0
    ```

    Args:
        x: Array.
        mask: Booleans, of the leading axes of `x`.

    Returns:
        Scalar array, of the type of `x`.

    Raises:
        ValueError: If the mask does not have the leading axes of `x`.
    """
    x = jnp.asarray(x)
    return jnp.sum(jnp.where(_mask(x, mask), x, 0), dtype=x.dtype)


def masked_mean(x: Any, mask: Any) -> jax.Array:
    """The mean of the entries for which a mask is true.

    As that of `kje.keras2.boolean_mask`, in a compiled function, too.

    Example:

    ```python
    losses = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert kje.keras2.masked_mean(losses, losses > 2) == 4.0
    assert kje.keras2.masked_mean(losses, [False, True]) == 4.0
    ```

    Args:
        x: Array.
        mask: Booleans, of the leading axes of `x`.

    Returns:
        Scalar array; `nan` if no entry counts.

    Raises:
        ValueError: If the mask does not have the leading axes of `x`.
    """
    x = jnp.asarray(x)
    return jnp.mean(x, where=_mask(x, mask))


def _mask(x: jax.Array, mask: Any) -> jax.Array:
    """A mask of the shape of an array."""
    found = jnp.asarray(mask, bool)
    if x.shape[: found.ndim] != found.shape:
        raise ValueError(
            "A mask has the leading axes of its array. Received: "
            f"mask.shape={found.shape} for x.shape={x.shape}. Give a mask of "
            f"shape {x.shape[: found.ndim]}."
        )
    rest = (1,) * (x.ndim - found.ndim)
    return jnp.broadcast_to(found.reshape(found.shape + rest), x.shape)
