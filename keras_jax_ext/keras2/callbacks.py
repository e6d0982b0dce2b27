"""Callbacks that take tensors where Keras 3 takes numbers."""

from collections.abc import Callable
from typing import Any

import keras


class LearningRateScheduler(keras.callbacks.LearningRateScheduler):
    """The callback of Keras, whose schedule may return a tensor.

    Example:

    ```python
    def schedule(epoch, rate):
        return rate * keras.ops.exp(-0.1)

    model.compile("sgd", "mse")
    model.fit(x, y, callbacks=[kje.keras2.LearningRateScheduler(schedule)])
    ```

    Args:
        schedule: Function of the epoch, and of the learning rate if it takes
            two arguments, that returns the new rate.
        verbose: Integer, 1 to print the rates. Defaults to 0.
    """

    def __init__(self, schedule: Callable[..., Any], verbose: int = 0) -> None:
        def as_number(*args: Any) -> Any:
            rate = schedule(*args)
            # Keras says what is wrong with anything else.
            return float(rate) if getattr(rate, "shape", None) == () else rate

        super().__init__(as_number, verbose)
