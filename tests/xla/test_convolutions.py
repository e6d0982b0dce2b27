"""Convolutions that XLA's CPU compiler is slow at, written otherwise."""

from keras_jax_ext._xla.cpu import rewritten

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 2, "same"), (2, 3, "valid")]
)
def test_the_gradient_of_a_strided_transpose_has_no_gaps_in_images(
    size, stride, padding
):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 5, 3)), "float32")
    kernel = jnp.asarray(rng.normal(size=(size, size, 4, 3)), "float32")

    def loss(x, kernel):
        y = keras.ops.conv_transpose(x, kernel, stride, padding)
        return jnp.sum(y**2)

    gradient = jax.grad(loss, 1)
    found = rewritten(gradient)
    np.testing.assert_allclose(
        found(x, kernel), gradient(x, kernel), rtol=1e-5, atol=1e-4
    )
    gap = f"lhs_dilation=({stride}, {stride})"
    before, after = (
        str(jax.make_jaxpr(f)(x, kernel)) for f in (gradient, found)
    )
    # The call itself has gaps; the gradient had them, too.
    assert (before.count(gap), after.count(gap)) == (2, 1)
