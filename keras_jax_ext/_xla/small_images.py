"""Convolutions of images smaller than the kernel, padding apart.

XLA's CPU compiler has fast kernels for larger images only, and takes 10 to 70
times longer here: in the last layers of a network of images, forward and
backward (seen in jaxlib 0.10 to 0.12). A sum of matrix products is fast.
"""

import functools
import itertools
import math
from typing import Any

import jax.numpy as jnp
from jax import lax

# Each place of a kernel is a product to compile.
_MOST_PLACES = 128


def by_products(equation: Any) -> functools.partial[Any] | None:
    """The same convolution as a sum of matrix products.

    Args:
        equation: A `conv_general_dilated` equation of a jaxpr.

    Returns:
        Function of its operands, `None` if XLA is fast at it.
    """
    params = equation.params
    images_at, kernel_at, _ = params["dimension_numbers"]
    images, kernel = (v.aval.shape for v in equation.invars)
    space = [images[i] for i in images_at[2:]]
    sizes = [kernel[i] for i in kernel_at[2:]]
    plain = (
        {*params["lhs_dilation"], *params["rhs_dilation"]} == {1}
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and all(pad >= 0 for pads in params["padding"] for pad in pads)
    )
    small = any(n < size for n, size in zip(space, sizes, strict=True))
    if not (plain and small and math.prod(sizes) <= _MOST_PLACES):
        return None
    return functools.partial(
        _convolve,
        numbers=params["dimension_numbers"],
        strides=params["window_strides"],
        padding=params["padding"],
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )


def _convolve(
    images,
    kernel,
    *,
    numbers: Any,
    strides: Any,
    padding: Any,
    **options: Any,
):
    images_at, kernel_at, outputs_at = numbers
    images = images.transpose(images_at[0], *images_at[2:], images_at[1])
    kernel = kernel.transpose(*kernel_at[2:], kernel_at[1], kernel_at[0])
    *sizes, _, filters = kernel.shape
    padded = jnp.pad(images, [(0, 0), *padding, (0, 0)])
    outputs = [
        (n - size) // step + 1
        for n, size, step in zip(
            padded.shape[1:-1], sizes, strides, strict=True
        )
    ]
    seen = [
        _seen(padded, place, outputs, strides)
        for place in itertools.product(*map(range, sizes))
    ]
    # One product over all places is faster than one for each.
    rows = jnp.concatenate(seen, axis=-1)
    rows = rows.reshape(-1, rows.shape[-1])
    values = lax.dot(rows, kernel.reshape(-1, filters), **options)
    values = values.reshape(images.shape[0], *outputs, filters)
    places = (outputs_at[0], *outputs_at[2:], outputs_at[1])
    return values.transpose([places.index(i) for i in range(values.ndim)])


def _seen(padded, place, outputs, strides):
    """What one place of the kernel sees of the images, for each output."""
    steps = zip(place, outputs, strides, strict=True)
    ends = [at + (n - 1) * step + 1 for at, n, step in steps]
    return lax.slice(
        padded,
        (0, *place, 0),
        (padded.shape[0], *ends, padded.shape[-1]),
        (1, *strides, 1),
    )
