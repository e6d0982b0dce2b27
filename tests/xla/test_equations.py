"""What a program holds, found in its inner programs too."""

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._xla.equations import holds, jaxprs

import jax
import jax.numpy as jnp
import pytest

HELD = jnp.arange(3.0)


def read(x):
    return x + HELD


@pytest.mark.parametrize(
    "function",
    [
        read,
        jax.jit(read),
        jax.grad(lambda x: jnp.sum(read(x) ** 2)),
        lambda x: jax.lax.fori_loop(0, 3, lambda _, x: read(x), x),
        lambda x: jax.lax.cond(x[0] > 0, read, lambda x: x, x),
        lambda x: (x, HELD),
    ],
    ids=["a sum", "a call", "a gradient", "a loop", "a branch", "an output"],
)
def test_an_array_that_a_program_reads_is_in_it(function):
    traced = jax.jit(function).trace(jnp.zeros(3)).jaxpr
    assert holds(traced, [jnp.zeros(3), HELD])
    assert not holds(traced, [jnp.arange(3.0)])


def test_a_program_that_is_called_twice_is_met_once():
    inner = jax.jit(lambda x: 2 * x)
    traced = jax.make_jaxpr(lambda x: inner(inner(x)))(1.0)
    assert len([*jaxprs(traced)]) == 2
