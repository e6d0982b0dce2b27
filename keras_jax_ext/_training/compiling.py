"""What `compile` accepts: in files, and in steps."""

import contextlib
from collections.abc import Iterator
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._seeing import reports
from keras_jax_ext._training.objective import Compiled, by_path
from keras_jax_ext._training.specs import (
    Kept,
    renamed,
    split_losses,
    split_metrics,
)

import keras

_SPECS = ("loss", "metrics", "weighted_metrics")


def compiled(model: Any) -> Compiled | None:
    """The compiled losses and metrics of a model; `None` before `compile`."""
    found = _keras.compiled_loss(model)
    return found if isinstance(found, Compiled) else None


@contextlib.contextmanager
def specs(
    model: Any, loss: Any, loss_weights: Any, metrics: Any, weighted: Any
) -> Iterator[dict[str, Any]]:
    """Hand Keras its own losses and metrics, and put ours beside them.

    Args:
        model: The model; unchanged if the block raises.
        loss: As in `compile`.
        loss_weights: As in `compile`.
        metrics: As in `compile`.
        weighted: `weighted_metrics`, as in `compile`.

    Yields:
        Dict of the arguments for Keras's `compile`.
    """
    stock, losses = split_losses(loss, loss_weights)
    plain, own = split_metrics(metrics, weighted=False)
    plain_weighted, own_weighted = split_metrics(weighted, weighted=True)
    own = renamed([*own, *own_weighted])
    restore = _keras.clear_compiled(model)
    try:
        yield dict(zip(_SPECS, (stock, plain, plain_weighted), strict=True))
    except BaseException:
        restore()
        raise
    if losses:
        model.loss = loss
    given = zip(_SPECS, (loss, metrics, weighted), strict=True)
    spec = {name: value for name, value in given if value is not None}
    stock = _keras.compiled_loss(model)
    made = Compiled(model, spec, stock, losses, own)
    _keras.set_compiled_loss(model, made)


def config(model: Any, written: dict[str, Any] | None) -> Any:
    """Add to Keras's config of `compile` the losses and metrics of ours."""
    if not written:
        return written
    if written.get("steps_per_execution") == "auto":
        # Stock Keras may load it, and knows numbers only.
        del written["steps_per_execution"]
    known = compiled(model)
    if known is None:
        return written
    spec = known.spec
    if model._loads_as_stock and (known.losses or known.own_metrics):
        spec = {**dict.fromkeys(_SPECS), "loss": Kept(spec)}
    for name, value in spec.items():
        written[name] = keras.saving.serialize_keras_object(value)
    return written


def note_shared_weight(
    model: Any, y: Any, sample_weight: Any, training: bool
) -> None:
    """Note whether one `sample_weight` array is for all of several outputs.

    Keras repeats it for each of them, which a loss over the whole must undo.
    """
    known = compiled(model)
    if known is None or not (known.losses or known.own_metrics):
        return
    one = structures.is_structure(y) and not structures.is_structure(
        sample_weight
    )
    if known.one_weight[training] != one:
        known.one_weight[training] = one
        # The compiled step holds the old one.
        if training:
            model.train_function = None
        else:
            model.test_function = None


def keep_class_weight(model: Any, class_weight: Any) -> Any:
    """Keep `class_weight` for a loss that asks for it.

    Returns:
        What Keras turns into sample weights: the same, or `None`.

    Raises:
        ValueError: If only some of the losses ask for it.
    """
    known = compiled(model)
    if known is None or "class_weight" not in known.names:
        return class_weight
    asking = [
        "class_weight" in b.names
        for _, _, b in known.losses
        if {"class_weight", "y_true", "y_pred"} & {*b.names}
    ]
    if known.stock is not None:
        asking.append(False)
    if len({*asking}) > 1 and class_weight is not None:
        raise ValueError(
            "`class_weight` goes either to the loss that asks for it by "
            "name or into the sample weights of all. Received: "
            f"class_weight={class_weight!r}, one loss that asks and "
            "others that do not. Ask for it in each, or in none."
        )
    if known.class_weight != class_weight:
        known.class_weight = class_weight
        model.train_function = None  # the compiled step holds the old one
    return None if any(asking) else class_weight


@contextlib.contextmanager
def stepping(model: Any, state: Any, training: bool) -> Iterator[None]:
    """Within the block, losses and metrics know what the step was given."""
    known = compiled(model)
    if known is None:
        yield
        return
    with reports.collecting() as received:
        known.step = {
            "training": training,
            "parameters": state[0],
            "states": state[1],
            "reports": received,
        }
        try:
            yield
        finally:
            known.step = {}


@contextlib.contextmanager
def computing_loss(model: Any, x: Any, training: bool) -> Iterator[None]:
    """Within the block, losses may ask for the inputs and the mode."""
    known = compiled(model)
    if known is None:
        yield
        return
    before = known.step
    # The step knows `training`; an override of `compute_loss` may drop it.
    known.step = {"training": training, **before, "x": x}
    try:
        yield
    finally:
        known.step = before


@contextlib.contextmanager
def computing_metrics(
    model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any
) -> Iterator[None]:
    """Update our metrics, then explain what those of Keras raise."""
    known = compiled(model)
    if known and known.own_metrics and known.built:
        given = known.given(x, y, y_pred, sample_weight)
        given.update(by_path(model, known.names, known.step))
        known.update_metrics(given)
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        if known:
            known.explain("metrics", y_pred, error)
        raise


def reported_logs(model: Any, logs: dict[str, Any]) -> dict[str, Any]:
    """The logs without what no layer reported in this step.

    A zero would be wrong for what is reported in training only.
    """
    known = compiled(model)
    if not known or not known.reported:
        return logs
    silent = known.silent()
    return {name: v for name, v in logs.items() if name not in silent}
