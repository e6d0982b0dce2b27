"""Convolutions whose kernel is larger than the images, by products."""

from keras_jax_ext._xla.cpu import rewritten
from keras_jax_ext._xla.small_images import by_products

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("images", "size", "stride", "padding", "layout"),
    [
        ((2, 4, 4, 3), (5, 5), 1, "SAME", "last"),
        ((2, 3, 6, 3), (5, 3), 2, "SAME", "last"),
        ((2, 2, 2, 3), (3, 3), 1, [(2, 3), (1, 2)], "last"),
        ((2, 3, 4, 4), (5, 5), 1, "SAME", "first"),
        ((2, 4, 3), (5,), 1, "SAME", "last"),
        ((2, 2, 3, 2, 3), (3, 3, 3), 1, "SAME", "last"),
    ],
)
def test_values_and_gradients_are_those_of_the_convolution(
    images, size, stride, padding, layout
):
    rng = np.random.default_rng(0)
    space = "XYZ"[: len(size)]
    x = jnp.asarray(rng.normal(size=images), "float32")
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 4)), "float32")
    where = f"N{space}C" if layout == "last" else f"NC{space}"

    def outputs(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            [stride] * len(size),
            padding,
            dimension_numbers=(where, f"{space}IO", where),
        )

    def loss(x, kernel):
        return jnp.sum(jnp.sin(outputs(x, kernel)))

    for function in (outputs, jax.value_and_grad(loss, (0, 1))):
        found, expected = (
            jax.tree.leaves(f(x, kernel))
            for f in (rewritten(function), function)
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    changed = jax.make_jaxpr(rewritten(outputs))(x, kernel)
    assert "conv_general_dilated" not in str(changed)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (5, {}),  # as large as the images
        (7, {"rhs_dilation": (2, 2)}),
        (7, {"lhs_dilation": (2, 2)}),
        (7, {"feature_group_count": 3}),
        (13, {}),  # too many products
    ],
)
def test_others_stay_convolutions(size, options):
    x, inputs = (
        jnp.ones((1, 5, 5, 3)),
        3 // options.get("feature_group_count", 1),
    )

    def function(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            [(12, 12)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            **options,
        )

    jaxpr = jax.make_jaxpr(function)(x, jnp.ones((size, size, inputs, 3)))
    (equation,) = jaxpr.jaxpr.eqns
    assert by_products(equation) is None
