"""Names with a number are those that people find in their logs and files."""

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._by_name.naming import free_name
from keras_jax_ext._by_name.structures import count_rows

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        ([], "loss"),
        (["mean", "loss_1"], "loss"),
        (["loss"], "loss_1"),
        (["loss", "loss_1", "loss_3"], "loss_2"),
    ],
)
def test_the_first_free_name_is_found(taken, free):
    assert free_name("loss", set(taken)) == free


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"x": np.ones((5, 2)), "y_pred": np.ones((4, 1))}, 5),
        ({"x": None, "y_pred": {"a": np.ones((4, 1)), "b": 1.0}}, 4),
        ({"x": [np.float32(1), None, np.ones(3)]}, 3),
        ({"x": 2.0, "y_pred": np.float32(1)}, 1),
        ({}, 1),
    ],
)
def test_the_rows_of_a_batch_are_counted_in_what_has_a_shape(given, rows):
    assert count_rows(given) == rows
