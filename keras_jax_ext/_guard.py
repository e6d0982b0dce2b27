"""A model's variables keep their last good values when a step fails."""

import functools
from typing import Any

from keras_jax_ext import _keras

import jax


def guarded(model, function, *, optimizer):
    """Wrap a step function so that a failing step keeps the weights.

    Keras takes the values out of the variables before a step; an exception
    while it is traced would leave every variable `None`.

    Args:
        model: The model that `function` steps.
        function: `f(state, iterator) -> (logs, state)`.
        optimizer: Boolean, whether the state holds the optimizer's.

    Returns:
        A function of the same arguments.
    """

    @functools.wraps(function)
    def step(state, iterator):
        kept = state
        config: Any = jax.config
        if config.jax_debug_nans or config.jax_debug_infs:
            # These raise after the buffers were given away.
            kept = jax.tree.map(jax.numpy.copy, state)
        try:
            return function(state, iterator)
        except StopIteration:
            raise
        except BaseException:
            _keras.restore_state(model, kept, optimizer=optimizer)
            raise

    return step
