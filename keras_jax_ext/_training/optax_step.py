"""A train step that gives an optax transformation the loss it asks for."""

from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._optax import extra
from keras_jax_ext.optimizers._optax_optimizer import (
    innermost,
    optax_optimizers,
)

import jax
import keras


def is_asked_for(optimizer: Any) -> bool:
    """Whether an optimizer evaluates the loss itself.

    Line searches, Polyak steps and sharpness-aware minimization do.

    Args:
        optimizer: A Keras optimizer, or `None`.
    """
    return any(each.needs_loss for each in optax_optimizers(optimizer))


def train_step(model: Any, state: Any, data: Any) -> tuple[Any, Any]:
    """As `keras.Model.train_step`, for optimizers that are given the loss.

    Args:
        model: The model.
        state: Tuple of lists of arrays.
        data: One batch.

    Returns:
        Tuple of the logs and the next state.
    """
    trainable, fixed, optimizer_variables, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

    def compute(values):
        return model.compute_loss_and_updates(
            values,
            fixed,
            metrics,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=optimizer_variables,
        )

    (_, aux), gradients = jax.value_and_grad(compute, has_aux=True)(trainable)
    loss, y_pred, new_fixed, metrics = aux
    ids = [id(v) for v in model.trainable_variables]

    def value_fn(changed):
        # The same batch, seeds and statistics as the step itself; changes
        # that this evaluation makes to them are dropped.
        values = zip(ids, trainable, strict=True)
        return compute([changed.get(i, v) for i, v in values])[1][0]

    given = extra.GivenLoss(
        loss, dict(zip(ids, gradients, strict=True)), value_fn
    )
    with extra.giving(given):
        trainable, optimizer_variables = model.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
    logs, metrics = _keras.update_metrics(
        model, metrics, loss, x, y, y_pred, sample_weight
    )
    return logs, (trainable, new_fixed, optimizer_variables, metrics)


def check(model: Any) -> None:
    """Raise if an optax optimizer cannot train a model.

    Args:
        model: A compiled model.
    """
    root = innermost(model.optimizer)
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    for each in optax_optimizers(model.optimizer):
        each.check_model(model.trainable_variables, whole=each is root)
        if scales or each.loss_scale_factor is not None:
            each.refuse_functions(
                "with a scaled loss",
                'Use the policy "mixed_bfloat16", which needs no scaling, or '
                "`compile(auto_scale_loss=False)`.",
            )
        if each.gradient_accumulation_steps:
            each.refuse_functions(
                "with accumulated gradients",
                "Use larger batches.",
            )
