"""Loops of JAX are found among the functions that are running."""

import inspect

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._xla.tracing import is_symbolic, running_loops

import jax
import jax.numpy as jnp
import keras
import pytest


def scan(body):
    return jax.lax.scan(lambda c, _: (body(c), None), 0, length=3)[0]


def while_loop(body):
    return jax.lax.while_loop(lambda c: c < 3, body, 0)


LOOPS = {
    scan: inspect.unwrap(jax.lax.scan).__code__,
    while_loop: inspect.unwrap(jax.lax.while_loop).__code__,
}


def names(outermost):
    return [loop.f_code.co_name for loop, _ in running_loops(outermost)]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_each_trace_of_a_body_is_another_frame_below_the_same_loop(loop):
    found = []

    def step():
        def body(carry):
            found.extend(running_loops(step.__code__))
            return carry + jnp.float32(1)

        # The carry begins as an integer and becomes a float: traced twice.
        return loop(body)

    step()
    (first, trace), *others = found
    assert others
    assert first.f_code is LOOPS[loop]
    assert all(again is first for again, _ in others)
    assert any(other is not trace for _, other in others)


def test_loops_are_found_innermost_first_up_to_the_outermost_function():
    found = []

    def inner():
        def body(carry):
            found.append(names(inner.__code__))
            found.append(names(outer.__code__))
            return carry + 1.0

        return while_loop(body)

    def outer():
        return scan(lambda carry: carry + inner())

    outer()
    assert found[:2] == [["while_loop"], ["while_loop", "scan"]]
    assert names(outer.__code__) == []


def test_what_only_a_trace_knows_is_symbolic():
    seen = []
    jax.eval_shape(lambda x: seen.append(is_symbolic(x)), jnp.ones(2))
    (dimension,) = jax.export.symbolic_shape("b")
    assert seen == [True]
    assert is_symbolic(dimension)
    plain = [1, 2.0, "a", None, jnp.ones(2), keras.KerasTensor((2,))]
    assert not any(map(is_symbolic, plain))
