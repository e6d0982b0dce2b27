"""Products for the gradients of narrow layers, fast on a CPU.

The gradient of a kernel of shape `(n, m)` is a product over the rows of a
batch. XLA writes it as `(n, rows) @ (rows, m)`, whatever order it is given in,
and where `m` is small its CPU kernel takes up to 10 times as long as for
`(m, rows) @ (rows, n)` (seen in jaxlib 0.10 to 0.12, for 32 to 256 rows). A
barrier behind the product keeps XLA from turning it round.
"""

import functools
import math
from typing import Any

from jax import lax

# Products with more columns than this are left alone: transposing the result
# would cost what the rewrite saves.
NARROW = 32


def narrow_first(equation: Any) -> functools.partial[Any] | None:
    """The same product over leading axes, its narrow operand first.

    Args:
        equation: A `dot_general` equation of a jaxpr.

    Returns:
        Function of its operands, `None` where it would save nothing.
    """
    (left_over, right_over), batch = equation.params["dimension_numbers"]
    left, right = (v.aval for v in equation.invars)
    leading = tuple(range(len(left_over)))
    if any(batch) or not left_over == right_over == leading:
        return None
    if left.dtype != "float32" or equation.params["out_sharding"] is not None:
        return None
    shapes = left.shape[len(leading) :], right.shape[len(leading) :]
    if not all(isinstance(size, int) for size in sum(shapes, ())):
        return None
    columns = [math.prod(shape) for shape in shapes]
    if min(columns) > NARROW or max(columns) < 2 * min(columns):
        return None
    return functools.partial(
        _product, swap=columns[0] > columns[1], **equation.params
    )


def _product(left, right, *, swap, **params: Any):
    if not swap:
        product = lax.dot_general_p.bind(left, right, **params)
        return lax.optimization_barrier(product)
    product = lax.dot_general_p.bind(right, left, **params)
    product = lax.optimization_barrier(product)
    first = right.ndim - len(params["dimension_numbers"][0][0])
    axes = range(product.ndim)
    return product.transpose(*axes[first:], *axes[:first])
