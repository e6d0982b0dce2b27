"""Recurrent layers that keep their states from one batch to the next."""

import functools
from typing import Any

from keras_jax_ext import _keras


def stateful(layer: Any) -> Any:
    """Have recurrent layers with `stateful=True` keep their states in `fit`.

    With JAX, Keras 3 forgets them between the batches of `fit`, `evaluate` and
    `predict`, without a word: they are no variables of the model.

    Example:

    ```python
    layer = keras.layers.LSTM(2, stateful=True)
    inputs = keras.Input((3, 1), batch_size=4)
    model = kje.Sequential([inputs, kje.keras2.stateful(layer)])
    once, twice = (model.predict(np.ones((4, 3, 1))) for _ in range(2))
    bool((once == twice).all())  # False
    ```

    Args:
        layer: A recurrent layer, one that holds such layers, or a model.

    Returns:
        The same layer.
    """
    build = layer.build

    @functools.wraps(build)
    def run(*args: Any, **kwargs: Any) -> None:
        build(*args, **kwargs)
        _carry(layer)

    if layer.built:
        _carry(layer)
    else:
        vars(layer)["build"] = run
    return layer


def _carry(layer):
    for each in (layer, *_keras.sublayers(layer)):
        if getattr(each, "states", None) is not None:
            _keras.carry_states(each)
