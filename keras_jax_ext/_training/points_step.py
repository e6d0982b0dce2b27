"""Steps over `Points`, in which the loss applies the model, and Keras does not.

Keras's train step applies the model to all that it is given. Points of several
sets are no input of a model.
"""

from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.points import Points
from keras_jax_ext._loop.source import Source
from keras_jax_ext._training.compiling import objective
from keras_jax_ext.transforms.variables import is_seed

import jax
import keras

_ABSENT = ("y_true", "y_pred", "sample_weight", "class_weight")


def prepare(model: Any, *data: Any) -> None:
    """Check that a model can train on points, and build it from them.

    Args:
        model: A compiled model.
        *data: Data of `fit` or `evaluate`; those of other kinds are ignored.

    Raises:
        ValueError: If a loss or metric needs outputs or labels.
    """
    for points in data:
        if isinstance(points, Points):
            _check(model)
            # The batch that builds a model belongs to no epoch.
            with points.looking():
                Source(model, points).build()


def _check(model):
    known = objective(model)
    if known is None:
        return
    asked = [
        name
        for binding in known.bindings
        for name in binding.required
        if name in _ABSENT
    ]
    if known.stock is not None or _keras.has_stock_metrics(model):
        asked += ["y_true", "y_pred"]
    if asked:
        raise ValueError(
            "Points have no labels, and the model is not applied to them: a "
            "loss or metric asks for `x` and `apply`. Received: compile with "
            f"{list(known.spec)} that ask for {list(dict.fromkeys(asked))}. "
            'Write `def loss(x, apply)`, and use `apply(x["..."])` there.'
        )


def refuse(data: Any) -> None:
    """Raise if `predict` is given points.

    Args:
        data: As `x` in `predict`.
    """
    if isinstance(data, Points):
        raise ValueError(
            "`predict` applies the model to one input, and points are several "
            f"sets. Received: x=Points of the sets {list(data.read())}. Give "
            'it one of the arrays: `model.predict(points.read()["..."])`.'
        )


def build(model: Any, sets: Any) -> None:
    """Stand for the call of a model by sets: build it from the first.

    Args:
        model: A model.
        sets: `Sets`.
    """
    if not _keras.is_built(model):
        model(next(iter(sets.values())), training=False)


def stateless_call(
    model: Any, values: Any, states: Any, *, training: bool, losses: bool
) -> tuple[Any, ...]:
    """Stand for the `stateless_call` of a model by sets: no outputs.

    Args:
        model: A built model.
        values: List of arrays for the trainable variables.
        states: List of arrays for the others.
        training: Boolean, the mode.
        losses: Boolean, whether to return the regularizers of weights.

    Returns:
        Tuple of `None`, the new states and, if asked for, the losses.
    """
    fixed = model.non_trainable_variables
    # What `apply` draws depends on the seeds, which it does not change.
    after = [
        state + jax.numpy.array([0, 1], state.dtype)
        if training and is_seed(variable)
        else state
        for variable, state in zip(fixed, states, strict=True)
    ]
    if not losses:
        return None, after
    pairs = zip(
        (*model.trainable_variables, *fixed), (*values, *states), strict=True
    )
    with keras.StatelessScope(list(pairs), collect_losses=True):
        return None, after, list(model.losses)
