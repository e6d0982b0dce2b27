"""Keras's compiled losses and metrics, and where an optimizer's state is."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

# ruff: isort: off
# Masks, weights and reduces, as a Keras loss does after its `call`.
from keras.src.losses.loss import (
    reduce_weighted_values as reduce_weighted_values,
)

# Resolve "accuracy" and "crossentropy", whose class depends on the shapes.
from keras.src.trainers.compile_utils import (
    get_loss as get_loss,
    get_metric as get_metric,
)

# Compiled losses and metrics are no layers, and must not be tracked.
from keras.src.utils.tracking import (
    no_automatic_dependency_tracking as untracked,  # noqa: F401
)
# ruff: isort: on

from keras_jax_ext._keras.declaring import get_global_attribute


def layout_for(shape: Any, variable: Any = None) -> Any:
    """The layout of an optimizer's variable; `None` without a distribution.

    Args:
        shape: Tuple of integers, the shape of the new variable.
        variable: The model's variable that it belongs to, if any. If it has
            the same shape, the new one takes its layout. Any other is
            replicated, since the rules of a `LayoutMap` are about the model's
            variables.
    """
    if variable is not None and tuple(variable.shape) == tuple(shape):
        # Private, as in Keras's own `add_variable_from_reference`; replaced
        # by: a public `Variable.layout`.
        layout = getattr(variable, "_layout", None)
        if layout is not None:
            return layout
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    axes = [None] * len(shape)
    return keras.distribution.TensorLayout(axes, distribution.device_mesh)


def update_metrics(
    model: Any,
    metrics_variables: Any,
    loss: Any,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
) -> tuple[dict[str, Any], Any]:
    """Update the metrics of a step, as a pure function.

    Returns:
        `(logs, metrics_variables)`.
    """
    # Private, the last part of Keras's own `train_step`; replaced by: a public
    # stateless `compute_metrics`.
    return model._update_metrics_variables(
        metrics_variables, loss, x, y, y_pred, sample_weight
    )


def check_one_output(loss: Any) -> None:
    """Refuse a loss that stock Keras calls once for each output."""
    scopes = get_global_attribute("name_scope_stack")
    scope = scopes[-1] if scopes else None
    if scope is None or scope.name != "compile_loss":
        return
    if vars(loss).get("_scope") is scope:
        raise ValueError(
            f"A stock keras.Model calls a loss once for each output, and "
            f"{loss.name!r} was written for the whole output. Received: one "
            "loss and several outputs. Use keras_jax_ext.Model, or "
            "keras_jax_ext.extend(model) and compile again."
        )
    loss._scope = scope


def clear_compiled(model: Any) -> Callable[[], None]:
    """Empty the slots of `compile`, so that `loss=None` leaves no old loss.

    Returns:
        A function that fills them again.
    """
    names = ("_compile_loss", "_compile_metrics", "loss")
    before = {name: vars(model).get(name) for name in names}
    vars(model).update(dict.fromkeys(names))
    return lambda: vars(model).update(before)


def compiled_loss(model: Any) -> Any:
    """The object behind `compile(loss=)`, or `None`."""
    return model._compile_loss


def set_compiled_loss(model: Any, compiled: Any) -> None:
    """Put another object behind `compile(loss=)`."""
    vars(model)["_compile_loss"] = compiled


def stock_loss_name(compiled: Any) -> str:
    """The name of the first loss of a built `CompileLoss`."""
    return compiled._flat_losses[0].loss.name


def take_loss_weight(compiled: Any) -> Any:
    """Take the weight of the only loss out of a built `CompileLoss`."""
    (only,) = compiled._flat_losses
    compiled._flat_losses = [only._replace(loss_weights=None)]
    return only.loss_weights


def stock_metrics(model: Any) -> Any:
    """The object behind the metrics of Keras in `compile`, or `None`."""
    return model._compile_metrics


def stock_metric_names(model: Any) -> list[str]:
    """The names of Keras's metrics in the logs, once they are built."""
    compiled = model._compile_metrics
    return list(compiled.result()) if compiled and compiled.built else []


def compiled_step(function: Any) -> Any:
    """The jitted step inside a step function of Keras's, or `None`."""
    # Keras keeps it in a closure; replaced by: a public hook around a step.
    nonlocals = inspect.getclosurevars(function).nonlocals
    for name in ("step_function", "_step_function"):
        inner = nonlocals.get(name)
        if hasattr(inner, "trace"):
            return inner
        if inspect.isfunction(inner):
            return compiled_step(inner)
    return None
