"""Convolutions that stay fast inside a compiled loop on a CPU. JAX only.

XLA brings convolutions into the layout of its fast CPU kernels in the main
computation of a program only, not in the body of a loop (seen in jaxlib 0.10
to 0.12). The gradients of a convolution arrive in other layouts, and took 40
to 70 times longer inside a loop. Transposing first costs next to nothing.
"""

from typing import Any

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


def canonical(function):
    """Let a function compute its convolutions with channels last.

    Args:
        function: Function of structures of arrays, to be traced.

    Returns:
        A function of the same arguments and values.
    """

    def rewritten(*args):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        if "conv_general_dilated" not in str(closed):
            return function(*args)
        values = jaxpr_as_fun(_rewrite(closed))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return rewritten


def _rewrite(value):
    """The same program, with each convolution between transpositions."""
    if type(value) in (tuple, list):
        return type(value)(_rewrite(item) for item in value)
    if not isinstance(value, ClosedJaxpr):
        return value
    equations = [_rewrite_equation(each) for each in value.jaxpr.eqns]
    return value.replace(jaxpr=value.jaxpr.replace(eqns=equations))


def _rewrite_equation(equation):
    if equation.primitive.name != "conv_general_dilated":
        params = {k: _rewrite(v) for k, v in equation.params.items()}
        return equation.replace(params=params)

    def convolve(*operands):
        return _convolve(*operands, **equation.params)

    shapes = [v.aval for v in equation.invars]
    (call,) = jax.make_jaxpr(jax.jit(convolve))(*shapes).jaxpr.eqns
    return call.replace(invars=equation.invars, outvars=equation.outvars)


def _convolve(images, kernel, *, dimension_numbers: Any, **params):
    """The same convolution, between transpositions."""
    images_at, kernel_at, outputs_at = dimension_numbers
    images = images.transpose(images_at[0], *images_at[2:], images_at[1])
    kernel = kernel.transpose(*kernel_at[2:], kernel_at[1], kernel_at[0])
    last = images.ndim - 1
    space = tuple(range(1, last))
    channels_last = lax.ConvDimensionNumbers(
        lhs_spec=(0, last, *space),
        rhs_spec=(last, last - 1, *range(last - 1)),
        out_spec=(0, last, *space),
    )
    outputs = lax.conv_general_dilated_p.bind(
        images, kernel, dimension_numbers=channels_last, **params
    )
    places = (outputs_at[0], *outputs_at[2:], outputs_at[1])
    return outputs.transpose([places.index(axis) for axis in range(last + 1)])
