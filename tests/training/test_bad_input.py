"""Arguments that cannot work are told before anything has changed."""

import keras_jax_ext as kje

import keras
import numpy as np
import pytest

X = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
Y = X[:, :1]


class Batches(keras.utils.PyDataset):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        return X, Y


def model():
    made = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


BAD = {
    "no rows": ((X[:0], Y[:0]), "at least one batch. Received: shapes"),
    "no rows, weights": (
        (X[:0], Y[:0], Y[:0, 0]),
        "at least one batch. Received: shapes",
    ),
    "no rows in a dict": (
        ({"a": X[:0]}, Y[:0]),
        "at least one batch. Received: shapes",
    ),
    "no batches": (Batches(0), "Received: Batches with num_batches=0"),
    "other lengths": ((X, Y[:2]), r"number of rows. Received: shapes \[\(4, 3"),
    "four": ((X, Y, Y, Y), "Received: a tuple of 4 entries"),
    "four in a list": ([X, Y, Y, Y], "Received: a list of 4 entries"),
    "nothing": ((), "Received: a tuple of 0 entries"),
}


@pytest.mark.parametrize("name", BAD)
def test_validation_data_are_checked_before_training(name):
    data, message = BAD[name]
    made = model()
    before = made.get_weights()
    with pytest.raises(ValueError, match=message):
        made.fit(X, Y, validation_data=data, verbose=0)
    for old, new in zip(before, made.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(made.optimizer.iterations) == 0


@pytest.mark.parametrize(
    "data", [(X, Y), [X, Y], (X, Y, Y[:, 0]), Batches(2), None], ids=type
)
def test_good_validation_data_are_taken(data):
    history = model().fit(X, Y, validation_data=data, verbose=0).history
    assert ("val_loss" in history) == (data is not None)


@pytest.mark.parametrize("steps", [np.int64(2), np.int32(2), 2])
def test_any_integer_is_a_number_of_steps(steps):
    made = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", steps_per_execution=steps)
    assert made.steps_per_execution == 2
    made.fit(X, Y, batch_size=1, verbose=0)


@pytest.mark.parametrize("steps", [True, 2.0, np.float32(2), "4", 0, -1, None])
def test_nothing_else_is_a_number_of_steps(steps):
    made = kje.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"positive integer\. Received"):
        made.compile("sgd", "mse", steps_per_execution=steps)
