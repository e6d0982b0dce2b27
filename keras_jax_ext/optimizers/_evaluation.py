"""Evaluation with the weights that a transformation keeps for it."""

import contextlib
from collections.abc import Iterator

from keras_jax_ext.optimizers._optax_optimizer import optax_optimizers

import jax.numpy as jnp
import keras

_swapped: set[int] = set()  # ids of the models that have these weights now


@contextlib.contextmanager
def evaluation_weights(model: keras.Model) -> Iterator[None]:
    """Give a model the weights to evaluate with, for the time of a block.

    `optax.contrib.schedule_free` and `optax.lookahead` train other weights
    than they evaluate. The methods `evaluate` and `predict` of kje models do
    this by themselves; use it around a call of the model, or to save a file
    for inference. With any other optimizer it does nothing.

    Example:

    ```python
    with kje.optimizers.evaluation_weights(model):
        model.save("inference.keras")
    ```

    Args:
        model: A compiled Keras model.
    """
    if id(model) in _swapped or getattr(model, "optimizer", None) is None:
        yield
        return
    # Within `fit` the newest values may not be in the variables yet.
    model.jax_state_sync()
    pairs = [
        pair
        for each in optax_optimizers(model.optimizer)
        for pair in each.evaluation_weights()
    ]
    trained = [(variable, variable.value) for variable, _ in pairs]
    _swapped.add(id(model))
    try:
        for variable, value in pairs:
            # Copied, because evaluation donates the buffer, which may also be
            # that of a slot.
            variable.assign(jnp.array(value, copy=True))
        yield
    finally:
        _swapped.discard(id(model))
        for variable, value in trained:
            variable.assign(value)
