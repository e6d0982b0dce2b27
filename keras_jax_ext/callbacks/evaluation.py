"""`EvaluationWeights`: show another callback the weights of evaluation."""

import functools
from typing import Any

from keras_jax_ext import optimizers
from keras_jax_ext._loop.callback_states import set_state_of, state_of
from keras_jax_ext._loop.watching import acts_on_epochs

import keras
import numpy as np

# Hooks in which callbacks read weights. In others they may load some.
_READING = (
    "on_epoch_end",
    "on_train_end",
    "on_batch_end",
    "on_train_batch_end",
)


class EvaluationWeights(keras.callbacks.Callback):
    """Shows a callback the weights that the model is evaluated with.

    `optax.contrib.schedule_free` and `optax.lookahead` train other weights
    than they evaluate. By itself `ModelCheckpoint` writes the trained weights,
    to continue the training with. Within this callback it writes the weights
    that `evaluate` and `predict` use. The model has its own weights back after
    each call, even one that fails. With any other optimizer this callback
    changes nothing.

    Example:

    ```python
    checkpoint = keras.callbacks.ModelCheckpoint("best.keras")
    callback = kje.callbacks.EvaluationWeights(checkpoint)
    ```

    Args:
        callback: A `keras.callbacks.Callback` that reads the weights, such as
            `ModelCheckpoint`. It is given to this one only, not to `fit`.

    Raises:
        TypeError: If `callback` is not a callback.
        RuntimeError: In `fit`, if `callback` sets the weights.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        super().__init__()
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`EvaluationWeights` takes a callback. Received: "
                f"callback={callback!r} (of type {type(callback).__name__}). "
                "Give one as `keras.callbacks.ModelCheckpoint(path)`."
            )
        self.callback = callback
        # Only hooks that the callback uses: with a hook for batches, `fit`
        # runs one step at a time.
        for name in _overridden(callback):
            hook = getattr(callback, name)
            if name in _READING:
                hook = functools.partial(self._show, hook)
            setattr(self, name, hook)

    def set_params(self, params: dict[str, Any]) -> None:
        """Pass the parameters of `fit` to the callback."""
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Pass the model to the callback."""
        super().set_model(model)
        self.callback.set_model(model)

    def get_state(self) -> Any:
        """The state of the callback, for a process that goes on."""
        return state_of(self.callback)

    def set_state(self, state: Any) -> None:
        """Give the callback its state.

        Args:
            state: From `get_state`.
        """
        set_state_of(self.callback, state)

    def _show(self, hook, *args, **kwargs):
        model = self.model
        with optimizers.evaluation_weights(model):
            before = [v.value for v in model.trainable_variables]
            hook(*args, **kwargs)
            after = [v.value for v in model.trainable_variables]
        if not all(map(_is_equal, before, after)):
            raise RuntimeError(
                "A callback in `EvaluationWeights` can read the weights, not "
                "set them: the training continues with its own. Received: "
                f"callback={self.callback}. Give it to `fit` itself."
            )


def _is_equal(one, other):
    return one is other or np.array_equal(one, other, equal_nan=True)


def _overridden(callback):
    """The names of the hooks that a callback defines and uses."""
    base = keras.callbacks.Callback
    names = [n for n in dir(base) if n.startswith("on_")]
    if acts_on_epochs(callback):
        names = [n for n in names if "batch" not in n]
    return [
        name
        for name in names
        if getattr(getattr(callback, name), "__func__", None)
        is not getattr(base, name)
    ]
