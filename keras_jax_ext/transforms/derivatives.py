"""Derivatives of a model's outputs by its inputs, for a whole batch at once.

Each row of the outputs depends on its own row of the inputs alone, so that one
pass through the model differentiates all rows. A derivative for each point
(`jax.vmap` of `jax.hessian`) computes the same with many more operations.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def derivatives(
    apply: Callable[[Any], Any], x: Any
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The outputs and their first derivatives by each column of the inputs.

    Example:

    ```python
    def transport(x, apply):
        u, (u_x, u_t) = kje.derivatives(apply, x)
        return (u_t + u * u_x) ** 2
    ```

    Args:
        apply: Function of inputs of shape `(rows, columns)` that returns
            outputs of shape `(rows, size)`. A row of the outputs may depend
            on no other row, as it does in training through
            `BatchNormalization`.
        x: Array of shape `(rows, columns)`.

    Returns:
        Pair of the outputs, and a tuple with an array of shape `(rows, size)`
        for each column.

    Raises:
        ValueError: If `x` or the outputs have another rank.
    """
    x = _checked(apply, x)
    outputs, pull_back = jax.vjp(apply, x)
    if outputs.shape[-1] > 1:
        slopes = [_along(apply, i)(x) for i in range(x.shape[-1])]
        return outputs, tuple(slopes)
    (slope,) = pull_back(jnp.ones_like(outputs))
    return outputs, tuple(jnp.split(slope, x.shape[-1], axis=-1))


def derivative(apply: Callable[[Any], Any], x: Any, *columns: int) -> jax.Array:
    """A derivative of the outputs by columns of the inputs, one after another.

    Example:

    ```python
    def heat(x, apply):
        u_t = kje.derivative(apply, x, 1)
        u_xx = kje.derivative(apply, x, 0, 0)
        return (u_t - u_xx) ** 2
    ```

    Args:
        apply: As in `derivatives`.
        x: Array of shape `(rows, columns)`.
        *columns: Integers, the columns of `x` to differentiate by.

    Returns:
        Array of shape `(rows, size)`.

    Raises:
        ValueError: If `x` or the outputs have another rank, or a column is
            none of `x`.
    """
    x = _checked(apply, x)
    for column in columns:
        if not 0 <= column < x.shape[-1]:
            raise ValueError(
                "A derivative is by columns of `x`. Received: "
                f"columns={columns} and x of shape {x.shape}. Count columns "
                "from 0."
            )
    if not columns:
        return apply(x)
    first, *rest = columns
    slope = _along(apply, first)
    if rest and jax.eval_shape(apply, x).shape[-1] == 1:
        # One output: backwards first, which is cheaper below a second one.
        slope = _backwards(apply, first)
    for column in rest:
        slope = _along(slope, column)
    return slope(x)


def _along(function, column):
    """The derivative of a function by one column, forwards."""

    def slope(x):
        direction = jnp.zeros_like(x).at[:, column].set(1)
        return jax.jvp(function, (x,), (direction,))[1]

    return slope


def _backwards(function, column):
    """The derivative of one output by one column, backwards."""
    gradient = jax.grad(lambda x: jnp.sum(function(x)))
    return lambda x: gradient(x)[:, column : column + 1]


def _checked(apply, x):
    x = jnp.asarray(x)
    shape = jax.eval_shape(apply, x) if x.ndim == 2 else None
    if shape is None or getattr(shape, "ndim", None) != 2:
        raise ValueError(
            "Derivatives are of outputs of shape (rows, size) by inputs of "
            f"shape (rows, columns). Received: x of shape {x.shape} and "
            f"outputs {shape}. Choose one part of the inputs and outputs."
        )
    return x
