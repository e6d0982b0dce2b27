"""Products that share an operand become one, with the same values."""

import re

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._xla.cpu import rewritten

import jax
import jax.numpy as jnp
import numpy as np
import pytest

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def products(function, *args):
    """How many products a function computes, before XLA sees it."""
    return len(
        re.findall(r"dot_general\[", str(jax.make_jaxpr(function)(*args)))
    )


def check(function, *args, before, after):
    """The number of products falls, and the values stay."""
    changed = rewritten(function)
    assert products(function, *args) == before
    assert products(changed, *args) == after
    expected, given = function(*args), jax.jit(changed)(*args)
    for a, b in zip(
        jax.tree.leaves(given), jax.tree.leaves(expected), strict=True
    ):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def heads(weights, x):
    return [jnp.sin(x @ w) for w in weights]


def loss(weights, x):
    hidden = jnp.tanh(x @ weights[0])
    return sum(jnp.sum(jnp.cos(y)) for y in heads(weights[1:], hidden))


def kernels(*columns, rows=16):
    return [normal(rows, n) for n in columns]


@pytest.mark.parametrize("columns", [(2, 2, 2), (2, 3, 5, 4), (1, 32, 4)])
def test_heads_of_one_layer_are_one_product(columns):
    check(heads, kernels(*columns), normal(8, 16), before=len(columns), after=1)


def test_rows_of_more_axes_share_too():
    check(heads, kernels(2, 3, 4), normal(4, 5, 16), before=3, after=1)


def test_three_products_a_head_become_three_in_all():
    weights = [normal(7, 16), *kernels(2, 3, 2, 5)]
    # One forward and one backward are the first layer's.
    gradient = jax.value_and_grad(loss)
    check(gradient, weights, normal(64, 7), before=2 + 3 * 4, after=2 + 3)


def test_heads_inside_a_loop_are_merged_there():
    def run(weights, x):
        def body(carry, _):
            return carry + sum(y.sum() for y in heads(weights, x)), None

        return jax.lax.scan(body, 0.0, length=3)[0]

    check(run, kernels(2, 3, 4), normal(8, 16), before=3, after=1)


def test_a_shared_kernel_is_one_product_for_all_its_inputs():
    def shared(inputs, kernel):
        return [x @ kernel for x in inputs]

    inputs = [normal(4, 16), normal(6, 16), normal(5, 16)]
    check(shared, inputs, normal(16, 64), before=3, after=1)


def test_a_sum_keeps_its_other_terms():
    def total(x, y, v, w, bias):
        return (x @ v + bias) + (jnp.sin(bias) + y @ w) + jnp.cos(x) @ v

    args = normal(8, 3), normal(8, 5), normal(3, 4), normal(5, 4), normal(8, 4)
    check(total, *args, before=3, after=1)


def test_a_sum_is_left_alone_if_a_term_is_needed_elsewhere():
    def total(x, y, v, w):
        product = x @ v
        return product + y @ w + jnp.cos(y) @ w, jnp.sin(product)

    args = normal(64, 3), normal(64, 5), normal(3, 40), normal(5, 40)
    check(total, *args, before=3, after=3)


def test_a_sum_of_products_of_vectors_is_left_alone():
    def total(x, y):
        return x @ x + y @ y + jnp.sin(y) @ y

    check(total, normal(8), normal(3), before=3, after=3)


@pytest.mark.parametrize("columns", [(33, 33, 33), (2, 3, 33)])
def test_wide_products_are_left_alone(columns):
    check(heads, kernels(*columns), normal(64, 16), before=3, after=3)


def test_two_heads_are_left_alone():
    check(heads, kernels(2, 2), normal(64, 16), before=2, after=2)


def test_products_of_two_precisions_are_left_alone():
    def both(weights, x):
        high = jnp.matmul(x, weights[1], precision="highest")
        return x @ weights[0], high, x @ weights[2]

    check(both, kernels(2, 2, 2), normal(64, 16), before=3, after=3)


def test_a_product_that_needs_another_is_left_alone():
    def steps(kernel, x):
        for _ in range(3):
            x = jnp.tanh(x @ kernel)
        return x

    check(steps, normal(16, 16), normal(64, 16), before=3, after=3)


def test_what_needs_a_result_waits_for_the_merged_product():
    def crossed(weights, x, later):
        first = jnp.sin(x @ weights[0])
        second = x @ (weights[1] * later.sum())
        return first * 2, second + 1, x @ weights[2]

    args = kernels(2, 3, 4), normal(64, 16), normal(4)
    check(crossed, *args, before=3, after=1)


def test_groups_that_need_each_other_are_not_both_merged():
    def crossed(x, y, v, w):
        first, other = x @ v, y @ w
        more = x @ jnp.sin(v), y @ jnp.sin(w)
        # Each group's last product needs the other group's first.
        last = x @ (v * other.sum()), y @ (w * first.sum())
        return first, other, more, last

    args = normal(64, 16), normal(64, 16), normal(16, 2), normal(16, 3)
    check(crossed, *args, before=6, after=4)


def test_effects_keep_their_order():
    seen = []

    def telling(weights, x):
        first = x @ weights[0]
        jax.debug.callback(lambda _: seen.append("first"), first, ordered=True)
        jax.debug.callback(lambda: seen.append("between"), ordered=True)
        return first, x @ weights[1], x @ weights[2]

    args = kernels(2, 3, 4), normal(8, 16)
    assert products(rewritten(telling), *args) == 3
    jax.block_until_ready(jax.jit(rewritten(telling))(*args))
    jax.effects_barrier()
    assert seen == ["first", "between"]


def test_members_of_an_ensemble_are_merged_each():
    stacked = [np.stack([w, 2 * w]) for w in kernels(2, 3, 4)]
    mapped = jax.vmap(rewritten(heads), (0, None))
    x = normal(8, 16)
    assert products(mapped, stacked, x) == 1
    expected = jax.vmap(heads, (0, None))(stacked, x)
    for a, b in zip(mapped(stacked, x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
