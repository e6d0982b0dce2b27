"""`EvaluationWeights`: another callback, shown other weights."""

import functools

from keras_jax_ext import optimizers
from keras_jax_ext._loop.watching import acts_on_epochs

import keras
import numpy as np

# Those at which callbacks look at weights; elsewhere they may load some.
_LOOKING = (
    "on_epoch_end",
    "on_train_end",
    "on_batch_end",
    "on_train_batch_end",
)


class EvaluationWeights(keras.callbacks.Callback):
    """Shows a callback the weights that the model is evaluated with.

    `optax.contrib.schedule_free` and `optax.lookahead` train other weights
    than they evaluate. What `ModelCheckpoint` writes is for going on with the
    training; around it, this writes what `evaluate` and `predict` use. The
    model has its own weights back after each call, even one that fails. With
    any other optimizer the callback sees what it always sees.

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
        RuntimeError: Within `fit`, if `callback` sets the weights.
    """

    def __init__(self, callback):
        super().__init__()
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`EvaluationWeights` takes a callback. Received: "
                f"callback={callback!r} (of type {type(callback).__name__}). "
                "Give one as `keras.callbacks.ModelCheckpoint(path)`."
            )
        self.callback = callback
        # Only what the callback uses: a hook for batches would slow `fit`.
        for name in _overridden(callback):
            hook = getattr(callback, name)
            if name in _LOOKING:
                hook = functools.partial(self._look, hook)
            setattr(self, name, hook)

    def set_params(self, params):
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        self.callback.set_model(model)

    def _look(self, hook, *args, **kwargs):
        model = self.model
        with optimizers.evaluation_weights(model):
            before = [v.value for v in model.trainable_variables]
            hook(*args, **kwargs)
            after = [v.value for v in model.trainable_variables]
        if not all(map(_is_equal, before, after)):
            raise RuntimeError(
                "A callback in `EvaluationWeights` can read the weights, not "
                f"set them: the training goes on with others. Received: "
                f"callback={self.callback}. Give it to `fit` itself."
            )


def _is_equal(one, other):
    return one is other or np.array_equal(one, other, equal_nan=True)


def _overridden(callback):
    """Names of the hooks that a callback defines and uses."""
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
