"""What `fit` of Keras 2 took as data, and Keras 3 does not."""

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np


def weighted(data: Any, class_weight: Mapping[int, float] | None) -> Any:
    """Batches with a weight for each row, by the class of its label.

    `fit` of Keras 3 takes no `class_weight` with a generator.

    Example:

    ```python
    batches = iter([(np.ones((2, 3)), np.array([0, 1]))])
    x, y, weights = next(kje.keras2.weighted(batches, {0: 1.0, 1: 5.0}))
    weights.tolist()  # [1.0, 5.0]
    ```

    Args:
        data: Generator, or `keras.utils.PyDataset`, of batches `(x, y)` or
            `(x, y, weights)`.
        class_weight: Dict of weights by class, or `None`.

    Returns:
        The same kind of data.
    """
    if class_weight is None:
        return data
    if isinstance(data, keras.utils.PyDataset):
        return _Weighted(data, class_weight)
    return _batches(data, class_weight)


def _batches(data: Any, class_weight: Mapping[int, float]) -> Iterator[Any]:
    for batch in data:
        yield _with_weights(batch, class_weight)


class _Weighted(keras.utils.PyDataset):
    def __init__(self, data: Any, class_weight: Mapping[int, float]) -> None:
        super().__init__()
        self._data = data
        self._class_weight = class_weight

    def __len__(self):
        return len(self._data)

    def __getitem__(self, index):
        return _with_weights(self._data[index], self._class_weight)

    def on_epoch_begin(self):
        self._data.on_epoch_begin()

    def on_epoch_end(self):
        self._data.on_epoch_end()


def _with_weights(batch, class_weight):
    x, y, *given = batch
    labels = np.asarray(y)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        labels = labels.argmax(-1)
    classes = labels.reshape(len(labels)).astype("int64").tolist()
    weights = np.array([class_weight.get(each, 1.0) for each in classes])
    return x, y, weights * np.asarray(given[0]) if given else weights


def as_array(data: Any) -> Any:
    """A list of numbers as an array; a list of arrays as it is.

    Args:
        data: What a script gives to `fit`.

    Returns:
        NumPy array, or the same.
    """
    leaves = keras.tree.flatten(data) if isinstance(data, list) else []
    of_numbers = leaves and all(isinstance(x, numbers.Number) for x in leaves)
    return np.array(data) if of_numbers else data
