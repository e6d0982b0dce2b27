"""Convolutions that stay fast inside a compiled loop on a CPU.

XLA gives convolutions the layout of its fast CPU kernels in the main
computation of a program, and not in the body of a loop (seen in jaxlib 0.10 to
0.12). The gradients of a convolution arrive in other layouts, and took 40
to 70 times longer inside a loop. Transposing first costs next to nothing.
"""

import functools
from typing import Any

from jax import lax


def channels_last(equation: Any) -> functools.partial[Any] | None:
    """The same convolution, computed with channels last.

    Args:
        equation: A `conv_general_dilated` equation of a jaxpr.

    Returns:
        Function of its operands, `None` if it has its channels last.
    """
    numbers = equation.params["dimension_numbers"]
    if numbers == _channels_last(len(numbers.lhs_spec)):
        return None
    return functools.partial(_convolve, **equation.params)


def _channels_last(axes):
    """The layout of images, kernel and outputs with this many axes."""
    last = axes - 1
    space = tuple(range(1, last))
    return lax.ConvDimensionNumbers(
        lhs_spec=(0, last, *space),
        rhs_spec=(last, last - 1, *range(last - 1)),
        out_spec=(0, last, *space),
    )


def _convolve(images, kernel, *, dimension_numbers: Any, **params):
    if _is_of_a_kernel(images, kernel, dimension_numbers, params):
        return _exchanged(images, kernel, dimension_numbers, **params)
    images_at, kernel_at, outputs_at = dimension_numbers
    images = images.transpose(images_at[0], *images_at[2:], images_at[1])
    kernel = kernel.transpose(*kernel_at[2:], kernel_at[1], kernel_at[0])
    by_channels = _channels_last(images.ndim)
    outputs = lax.conv_general_dilated_p.bind(
        images, kernel, dimension_numbers=by_channels, **params
    )
    places = (outputs_at[0], *outputs_at[2:], outputs_at[1])
    return outputs.transpose(
        [places.index(axis) for axis in range(images.ndim)]
    )


def _is_of_a_kernel(images, kernel, dimensions, params):
    """Whether it is the gradient by the kernel of a strided transpose.

    Its images have gaps, and its kernel is as large as they are.
    """
    sizes = [
        (images.shape[i], kernel.shape[k])
        for i, k in zip(
            dimensions.lhs_spec[2:], dimensions.rhs_spec[2:], strict=True
        )
    ]
    return (
        any(gap > 1 for gap in params["lhs_dilation"])
        and all(gap == 1 for gap in params["rhs_dilation"])
        and all(step == 1 for step in params["window_strides"])
        and params["feature_group_count"] == params["batch_group_count"] == 1
        and all(large >= small for small, large in sizes)
    )


def _exchanged(
    images, kernel, dimensions, *, padding: Any, lhs_dilation: Any, **params
):
    """The same with images and kernel exchanged, and the outputs reversed.

    XLA's CPU kernels are for kernels with gaps: 10 to 20 times faster here.
    """
    pads = []
    for i, (low, high) in enumerate(padding):
        size = kernel.shape[dimensions.rhs_spec[2 + i]]
        length = images.shape[dimensions.lhs_spec[2 + i]]
        length = (length - 1) * lhs_dilation[i] + 1
        outputs = length + low + high - size + 1
        pads.append((outputs - 1 - low, length + low - size))
    (batch, channels, *space), out = dimensions.rhs_spec, dimensions.out_spec
    exchanged = lax.conv_general_dilated_p.bind(
        kernel,
        images,
        dimension_numbers=lax.ConvDimensionNumbers(
            lhs_spec=(batch, channels, *space),
            rhs_spec=dimensions.lhs_spec,
            out_spec=(out[1], out[0], *out[2:]),
        ),
        padding=tuple(pads),
        **{
            **params,
            "lhs_dilation": params["rhs_dilation"],
            "rhs_dilation": lhs_dilation,
        },
    )
    return lax.rev(exchanged, out[2:])
