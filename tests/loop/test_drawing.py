"""Initial weights from one program a size: the same numbers."""

import keras_jax_ext  # noqa: F401
from keras_jax_ext import _keras

import jax
import keras
import numpy as np
import pytest
from keras.src.backend import random

DRAWS = {
    "uniform": {"minval": -0.13, "maxval": 0.13},
    "normal": {"stddev": 0.07, "mean": 0.5},
    "truncated_normal": {"stddev": 0.07},
}
SHAPES = (), (1,), (7, 5), (3, 3, 16, 31), (1024,), (1025,), (0, 3)


FILLED = {keras.initializers.Zeros: 0, keras.initializers.Ones: 1}


@pytest.fixture
def by_size(monkeypatch):
    """The draws of Keras, and those by size, which end with the test."""
    theirs = {}
    for cls in FILLED:
        call = getattr(cls.__call__, "__wrapped__", cls.__call__)
        monkeypatch.setattr(cls, "__call__", call)
    for name in DRAWS:
        theirs[name] = getattr(random, name)
        theirs[name] = getattr(theirs[name], "__wrapped__", theirs[name])
        monkeypatch.setattr(random, name, theirs[name])
    _keras.draw_by_size()
    return theirs, {name: getattr(random, name) for name in DRAWS}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_numbers_are_those_of_keras(by_size, name, shape):
    theirs, ours = (draws[name] for draws in by_size)
    for dtype in ("float32", "bfloat16", "float16", None):
        expected = theirs(shape, **DRAWS[name], dtype=dtype, seed=5)
        found = ours(shape, **DRAWS[name], dtype=dtype, seed=5)
        assert isinstance(found, jax.Array)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)


def test_other_shapes_of_a_size_compile_nothing(by_size):
    _, ours = by_size
    ours["uniform"]((50, 30), seed=1)
    jax.config.update("jax_no_tracing", True)
    try:
        ours["uniform"]((41, 40), seed=2)
    finally:
        jax.config.update("jax_no_tracing", False)


@pytest.mark.parametrize("cls", FILLED)
def test_zeros_and_ones_compile_nothing(by_size, cls):
    for dtype in ("float32", "bfloat16", "int32", "bool", None):
        jax.config.update("jax_no_tracing", True)
        try:
            found = cls()((3, 11), dtype=dtype)
        finally:
            jax.config.update("jax_no_tracing", False)
        expected = keras.ops.full((3, 11), FILLED[cls], dtype=dtype)
        assert isinstance(found, jax.Array)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_zeros_of_a_trace_are_made_in_it(by_size):
    jaxpr = jax.make_jaxpr(lambda: keras.initializers.Zeros()((3, 4)))()
    assert jaxpr.eqns


def test_a_seed_goes_on_as_in_keras(by_size):
    drawn = []
    for draws in by_size:
        seed = keras.random.SeedGenerator(3)
        drawn.append([draws["normal"]((2, 2), seed=seed) for _ in range(3)])
    np.testing.assert_array_equal(*drawn)


def test_bounds_may_be_arrays(by_size):
    low = np.array([0.0, 10.0, 20.0], "float32")
    drawn = [
        draws["uniform"]((2, 3), low, low + 1, seed=1) for draws in by_size
    ]
    np.testing.assert_array_equal(*drawn)


def test_a_trace_draws_no_more_than_it_needs(by_size):
    _, ours = by_size
    jaxpr = jax.make_jaxpr(lambda: ours["normal"]((3,), seed=1))()
    sizes = {v.aval.size for e in jaxpr.eqns for v in e.outvars}
    assert max(sizes) <= 3


def test_another_generator_draws_as_it_does(by_size):
    theirs, ours = by_size
    with jax.threefry_partitionable(False):
        expected = theirs["normal"]((5, 3), seed=1)
        np.testing.assert_array_equal(ours["normal"]((5, 3), seed=1), expected)


def test_initial_weights_are_those_of_keras(by_size, monkeypatch):
    made = []
    for draws in by_size:
        for name, draw in draws.items():
            monkeypatch.setattr(random, name, draw)
        keras.utils.set_random_seed(2)
        layers = (
            keras.layers.Conv2D(5, 3, kernel_initializer="he_normal"),
            keras.layers.LSTM(4),
            keras.layers.Embedding(9, 4),
        )
        for layer, shape in zip(
            layers, ((None, 8, 8, 3), (None, 5, 3), (None, 7)), strict=True
        ):
            layer.build(shape)
        made.append([w for layer in layers for w in layer.get_weights()])
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_array_equal(ours, theirs)
