"""The arguments of `compile`: into files, and into the steps."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._by_name import structures
from keras_jax_ext._seeing import reports
from keras_jax_ext._training import step as steps
from keras_jax_ext._training.objective import Objective
from keras_jax_ext._training.several import Updates
from keras_jax_ext._training.specs import (
    Kept,
    renamed,
    split_losses,
    split_metrics,
)
from keras_jax_ext._training.step import Step
from keras_jax_ext._xla.tracing import is_known_with

import keras

_SPECS = ("loss", "metrics", "weighted_metrics")


def objective(model: Any) -> Objective | None:
    """The compiled losses and metrics of a model; `None` before `compile`.

    Args:
        model: The model.
    """
    found = _keras.compiled_loss(model)
    return found if isinstance(found, Objective) else None


@contextlib.contextmanager
def specs(
    model: Any,
    optimizer: Any,
    loss: Any,
    loss_weights: Any,
    metrics: Any,
    weighted: Any,
) -> Iterator[dict[str, Any]]:
    """Hand Keras its own losses and metrics, and put ours beside them.

    Args:
        model: The model; unchanged if the block raises.
        optimizer: A Keras optimizer. That of updates has losses.
        loss: As in `compile`.
        loss_weights: As in `compile`.
        metrics: As in `compile`.
        weighted: `weighted_metrics`, as in `compile`.

    Yields:
        Dict of the arguments for Keras's `compile`.
    """
    updates = optimizer if isinstance(optimizer, Updates) else None
    stock, losses = split_losses(loss, loss_weights)
    losses = updates.losses() if updates else losses
    plain, own = split_metrics(metrics, weighted=False)
    plain_weighted, own_weighted = split_metrics(weighted, weighted=True)
    own = renamed([*own, *own_weighted])
    restore = _keras.clear_compiled(model)
    try:
        yield dict(zip(_SPECS, (stock, plain, plain_weighted), strict=True))
    except BaseException:
        restore()
        raise
    if losses and not updates:
        model.loss = loss
    given = zip(_SPECS, (loss, metrics, weighted), strict=True)
    spec = {name: value for name, value in given if value is not None}
    stock = _keras.compiled_loss(model)
    made = Objective(model, spec, stock, losses, own, updates)
    _keras.set_compiled_loss(model, made)


def config(
    model: Any, written: dict[str, Any] | None, as_stock: bool
) -> dict[str, Any] | None:
    """Add our losses and metrics to Keras's config of `compile`.

    Args:
        model: The model.
        written: Keras's config, or `None`.
        as_stock: Boolean, whether stock Keras loads the file.

    Returns:
        Dict, or `None`.
    """
    if not written:
        return written
    if written.get("steps_per_execution") == "auto":
        # Stock Keras may load it, and knows numbers only.
        del written["steps_per_execution"]
    known = objective(model)
    if known is None:
        return written
    if as_stock and known.updates is not None:
        return None  # stock Keras has no step for them
    spec = known.spec
    if as_stock and known.sees_whole:
        spec = {**dict.fromkeys(_SPECS), "loss": Kept(spec)}
    for name, value in spec.items():
        written[name] = keras.saving.serialize_keras_object(value)
    return written


def note_shared_sample_weight(
    model: Any, y: Any, sample_weight: Any, training: bool
) -> None:
    """Note whether one `sample_weight` array is for several outputs.

    Keras copies it to each of them, which a loss over the whole must undo.

    Args:
        model: The model.
        y: Labels, as in `fit`.
        sample_weight: Weights, as in `fit`.
        training: Boolean, the mode.
    """
    known = objective(model)
    if known is None or not known.sees_whole:
        return
    several = structures.is_structure(y)
    shares = several and not structures.is_structure(sample_weight)
    if known.shares_sample_weight[training] != shares:
        known.shares_sample_weight[training] = shares
        # The compiled step has the old answer in it.
        if training:
            model.train_function = None
        else:
            model.test_function = None


def keep_class_weight(
    model: Any, class_weight: Mapping[int, float] | None
) -> Mapping[int, float] | None:
    """Keep `class_weight` for a loss that asks for it.

    Args:
        model: The model.
        class_weight: As in `fit`.

    Returns:
        The same for Keras to turn into sample weights, or `None`.

    Raises:
        ValueError: If only some of the losses ask for it.
    """
    known = objective(model)
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
        model.train_function = None  # the compiled step has the old one in it
    return None if any(asking) else class_weight


@contextlib.contextmanager
def stepping(model: Any, state: Any, training: bool) -> Iterator[None]:
    """Within the block, losses and metrics know the state of the step.

    Args:
        model: The model.
        state: Tuple of lists of arrays.
        training: Boolean, the mode.
    """
    known = objective(model)
    if known is None:
        yield
        return
    with reports.collecting() as received:
        parameters, states = state[:2]
        step = Step(
            training=training,
            parameters=parameters,
            states=states,
            reports=received,
            masks=[],
        )
        with steps.running(known, step):
            yield


@contextlib.contextmanager
def computing_loss(
    model: Any, x: Any, y_pred: Any, training: bool
) -> Iterator[None]:
    """Within the block, losses may ask for the inputs and the mode.

    Args:
        model: The model.
        x: Inputs of the batch.
        y_pred: Structure of outputs.
        training: Boolean, the mode.
    """
    known = objective(model)
    if known is None:
        yield
        return
    # A step knows its mode; an override of `compute_loss` may drop it.
    step = steps.current(known) or Step(training=training)
    if step.masks is not None:
        outputs = keras.tree.flatten(y_pred)
        step.masks[:] = map(_keras.get_keras_mask, outputs)
    with steps.running(known, step._replace(x=x)):
        yield


@contextlib.contextmanager
def computing_metrics(
    model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any
) -> Iterator[None]:
    """Update our metrics; within the block, explain what Keras's raise.

    Args:
        model: The model.
        x: Inputs of the batch.
        y: Labels.
        y_pred: Structure of outputs.
        sample_weight: Weights.
    """
    known = objective(model)
    step = (known and steps.current(known)) or Step()
    _mask_again(y_pred, step.masks)
    if known and known.own_metrics and known.built:
        known.update_metrics(
            known.given(step, x, y, y_pred, sample_weight, in_scope=False)
        )
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        if known:
            known.explain("metrics", y_pred, error)
        raise


def _mask_again(y_pred: Any, masks: list[Any] | None) -> None:
    """Give outputs the masks that they lost with their gradients.

    Stock Keras's metrics of `fit` count the masked steps, unlike `evaluate`.
    """
    outputs = keras.tree.flatten(y_pred)
    if not masks or len(outputs) != len(masks):
        return
    for output, mask in zip(outputs, masks, strict=True):
        if mask is not None and is_known_with(mask, output):
            _keras.set_keras_mask(output, mask)


def reported_logs(model: Any, logs: dict[str, Any]) -> dict[str, Any]:
    """The logs without the values that no layer reported in this step.

    A zero would be wrong for a value that is reported in training only.

    Args:
        model: The model.
        logs: Dict of logs.

    Returns:
        Dict.
    """
    known = objective(model)
    if known is None:
        return logs
    unreported = known.unreported(steps.current(known) or Step())
    return {name: v for name, v in logs.items() if name not in unreported}
