"""The parts of Keras's trainer that our own `fit` still relies on.

The loop itself is in `_loop/`. Replaced by: a public epoch iterator, and a
public hook around a step.
"""

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# ruff: isort: off
# Makes the variables of a model from shapes. No public counterpart.
from keras.src.backend import compute_output_spec

# Whether a callback's hook is Keras's empty one. No public counterpart.
from keras.src.utils import is_default as is_default

# Runs a function on shapes alone, and makes the variables that it asks for.
# No public counterpart.
from keras.src import backend

# Python floats from the logs of a step. No public counterpart.
from keras.src.utils.python_utils import (
    pythonify_logs as pythonify_logs,
)
# ruff: isort: on

from keras_jax_ext._keras.mixing import Mixin
from keras_jax_ext._keras.optimizing import made_on_host
from keras_jax_ext._keras.reading import EpochIterator


def build(model: Any, iterator: EpochIterator) -> None:
    """Build what `fit` and `evaluate` need, from one batch of the data."""
    # Keras 3.16 renamed the method that decides whether there is need.
    builder = getattr(model, "_maybe_symbolic_build", model._symbolic_build)
    builder(iterator=iterator)


class BuiltFromBatches(Mixin):
    """Mixin: a model that builds itself, and its losses, from a batch.

    Keras calls these methods before the first step. Replaced by: a public
    hook that is given the first batch.
    """

    def needs_batch(self) -> bool:
        """Whether anything is left to build."""
        raise NotImplementedError

    def build_from_batch(self, batch: Any) -> None:
        """Build what is left, from `(x, y, sample_weight)` of any length."""
        raise NotImplementedError

    def _symbolic_build(self, iterator=None, data_batch=None):
        if not self.needs_batch():
            return
        if data_batch is None:
            data_batch = _first_batch(iterator)
        self.build_from_batch(data_batch)

    # Its name in Keras 3.16.
    _maybe_symbolic_build = _symbolic_build


def _first_batch(iterator):
    """A batch, drawn as Keras itself draws it."""
    if hasattr(keras.Model, "_maybe_symbolic_build"):  # Keras 3.16
        return next(iter(iterator.data_adapter.get_jax_iterator()))
    _, _, batches = next(iter(iterator))
    return next(batches)


def is_built(model: Any) -> bool:
    """Whether a model and all of its layers have their variables."""
    return all(layer.built for layer in model._flatten_layers())


def build_layers(model: Any, x: Any) -> None:
    """Make the variables of a model, from the shapes of inputs.

    Args:
        model: The model.
        x: Structure of `keras.KerasTensor`s.
    """
    # As `fit` does for a model that is not built; private, for `Layer`'s own
    # `compute_output_spec` makes no variables.
    compute_output_spec(model, x, training=False)


def is_compiled_built(model: Any) -> bool:
    """Whether the losses and metrics of `compile` have their variables."""
    compiled = model._compile_loss, model._compile_metrics
    return all(each is None or each.built for each in compiled)


def build_compiled(model: Any, batch: Any) -> None:
    """Build the losses and metrics of `compile`, from a batch."""
    model._symbolic_build(data_batch=batch)


def knows_direction(callback: Any) -> bool:
    """Whether a callback has found out in which direction a log is better."""
    return getattr(callback, "monitor_op", None) is not None


def know_direction(callback: Any) -> None:
    """Have a callback find out in which direction a log is better.

    The first time it also turns the sign of `min_delta`, if less is better.
    """
    # Private; replaced by: the direction of a log, in public.
    if callback.monitor_op is None:
        callback._set_monitor_op()


def monitored(callback: Any, values: Any, reference: Any) -> Any:
    """Whether each of some values is better than a reference.

    Args:
        callback: A Keras callback that monitors a log; it has its model.
        values: Array.
        reference: Array, or `None` for the first values.

    Returns:
        Boolean, or an array of them.
    """
    know_direction(callback)
    return np.asarray(callback._is_improvement(values, reference))


def write(variable: Any, array: Any) -> None:
    """Set a variable to an array that a compiled step made for it.

    `variable.assign` converts and checks for 5 us each, more than a small
    model's whole step; the array has the variable's shape, type and layout.
    """
    variable._value = array


def written(variable: Any) -> Any:
    """The array that `write` or an assignment has put into a variable."""
    return variable._value


def check_compiled(model: Any, method: str) -> None:
    """Raise unless the model is compiled, with Keras's message."""
    model._assert_compile_called(method)


def cached_iterator(model: Any) -> EpochIterator | None:
    """Keras's iterator over the validation data of the running `fit`."""
    return getattr(model, "_eval_epoch_iterator", None)


def cache_iterator(
    model: Any,
    x: Any,
    y: Any,
    sample_weight: Any,
    *,
    batch_size: int | None,
    steps: int | None,
) -> None:
    """Make Keras's iterator over the validation data of the running `fit`."""
    model._eval_epoch_iterator = EpochIterator(
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps,
        steps_per_execution=model.steps_per_execution,
    )


def forget_iterator(model: Any) -> None:
    """Drop the iterator over the validation data."""
    model._eval_epoch_iterator = None


def replaced(method: str) -> str | None:
    """The module whose function stands in place of one of Keras's.

    Tools that log runs replace `keras.Model.fit`; theirs has to be called.

    Args:
        method: String, the name of a method of `keras.Model`.

    Returns:
        String, or `None` if the method is Keras's own.
    """
    function = getattr(keras.Model, method)
    # Not `__module__`, which `functools.wraps` copies.
    found = getattr(function, "__globals__", {}).get("__name__", "another")
    return None if found.startswith("keras.") else found


def should_validate(model: Any, epoch: int, frequency: Any) -> bool:
    """Whether an epoch is followed by validation."""
    return model._should_eval(epoch, frequency)


def first_epoch(model: Any, initial_epoch: int) -> int:
    """The epoch to start with: `BackupAndRestore` may have set one."""
    return model._initial_epoch or initial_epoch


def begin_with_epoch(model: Any, epoch: int) -> None:
    """Have the `fit` that calls `on_train_begin` start with an epoch."""
    model._initial_epoch = epoch


def running_fit() -> dict[str, Any] | None:
    """The local variables of the `fit` of Keras that calls a callback.

    No public counterpart; replaced by: a callback that is given its
    `CallbackList` and the data.

    Returns:
        Dict with `callbacks`, `epoch_iterator` and `validation_data`; `None`
        if no such `fit` is running.
    """
    frame = inspect.currentframe()
    while frame is not None:
        names = frame.f_locals
        if {"callbacks", "epoch_iterator", "validation_data"} <= names.keys():
            return names
        frame = frame.f_back
    return None


def forget_first_epoch(model: Any) -> None:
    """Forget the epoch that `BackupAndRestore` set for an earlier `fit`.

    Keras never does: a later `fit` of fewer epochs would train nothing.
    """
    model._initial_epoch = None


def in_order(model: Any, logs: dict[str, Any]) -> list[Any]:
    """Logs as a list in the order of the model's metrics."""
    return model._flatten_metrics_in_order(logs)


def metrics_result(model: Any, logs: Any) -> dict[str, Any]:
    """Ask the metrics for their results; `logs` if they have none."""
    return model._get_metrics_result_or_logs(logs)


def hold_state(model: Any, state: dict[str, Any]) -> None:
    """Let the loop hold the state: a callback that reads the model syncs."""
    # Past `__setattr__`, which would wrap every list of it in a tracker.
    vars(model).update(_jax_state=state, _jax_state_synced=False)


def held_state(model: Any) -> dict[str, Any] | None:
    """The state that the loop holds; `None` when the variables have it."""
    return None if model._jax_state_synced else model._jax_state


def own_state(model: Any) -> None:
    """Say that the variables have the state."""
    model._jax_state_synced = True


def disown_state(model: Any) -> None:
    """Forget a state that is lost."""
    model._jax_state = None
    model._jax_state_synced = True


@contextlib.contextmanager
def unsynced(model: Any) -> Iterator[None]:
    """Suspend the sync on access of `callback.model`.

    For callbacks that are known not to read variables.
    """
    synced = model._jax_state_synced
    vars(model)["_jax_state_synced"] = True
    try:
        yield
    finally:
        vars(model)["_jax_state_synced"] = synced


def release_state(model: Any) -> None:
    """Give the state back to the variables."""
    model.jax_state_sync()
    disown_state(model)


def forget_losses(model: Any) -> None:
    """Drop the losses of a forward pass whose step did not come to its end.

    The next step would otherwise add them to its own.
    """
    model._losses_override = []


def rows_seen(model: Any) -> Any:
    """The number of rows of this epoch so far, from the tracker of the loss."""
    # Private; replaced by: a public tracker, or a number of the batch.
    return model._loss_tracker.count.value


class BuiltWithoutCall(Mixin):
    """Mixin: a model is not called to build it where no call is needed.

    Keras calls the model before its losses. These may call parts of it alone,
    on other inputs than `call` takes, and there may be no `call`. And a model
    that was given by its outputs has their shapes already.
    """

    built: bool
    optimizer: Any

    def _is_built_by_losses(self) -> bool:
        """Whether losses are all that is left to build."""
        return False

    # Private, the place where both loops build a model; replaced by: a public
    # hook for it.
    def _symbolic_build(self, iterator=None, data_batch=None):
        by_losses = self._is_built_by_losses()
        if by_losses or (not is_compiled_built(self) and _has_outputs(self)):
            if data_batch is None:
                data_batch = _first_batch(iterator)
            batch = keras.tree.map_structure(_symbol, data_batch)
            x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
            if by_losses:
                self._build_by_losses(x, y, weights)
            elif _are_declared(self, x):
                _build_by_outputs(self, x, y, weights)
        with made_on_host(self.optimizer):
            super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def _build_by_losses(self, x, y, sample_weight):
        backend.compute_output_spec(
            self.compute_loss,
            x,
            y,
            None,
            sample_weight=sample_weight,
            training=False,
        )
        layers = self._flatten_layers(include_self=False)
        if all(layer.built for layer in layers):
            self.built = True


def _has_outputs(model):
    """Whether a call computes what a functional model has declared, no more.

    Layers of the user, and functions in `Lambda`, may do more than that.
    """
    layers = model._flatten_layers()
    return getattr(_functional(model), "outputs", None) and all(
        layer.built
        and type(layer).call.__module__.startswith("keras.src.")
        and not isinstance(layer, keras.layers.Lambda)
        for layer in layers
    )


def _functional(model):
    return getattr(model, "_functional", model)


def _are_declared(model, x):
    """Whether inputs are of the shapes that were declared, for any batch."""
    given, declared = keras.tree.flatten(x), _functional(model).inputs
    return len(given) == len(declared) and all(
        a is not None and a.shape[1:] == b.shape[1:] and b.shape[0] is None
        for a, b in zip(given, declared, strict=True)
    )


def _build_by_outputs(model, x, y, sample_weight):
    """Build losses and metrics as Keras does, but from declared outputs."""
    rows = keras.tree.flatten(x)[0].shape[0]
    # Private; replaced by: a public structure of the outputs.
    y_pred = keras.tree.map_structure(
        lambda a: keras.KerasTensor((rows, *a.shape[1:]), a.dtype),
        _functional(model)._outputs_struct,
    )
    if None in (d for a in keras.tree.flatten(y_pred) for d in a.shape):
        return
    compiled = model._compile_metrics, model._compile_loss
    steps = (
        model.compute_metrics,
        functools.partial(model._compute_loss, training=False),
    )
    for of, step in zip(compiled, steps, strict=True):
        if of is not None and not of.built:
            backend.compute_output_spec(
                step, x, y, y_pred, sample_weight=sample_weight
            )


def _symbol(array):
    if array is None:
        return None
    dtype = keras.backend.standardize_dtype(array.dtype)
    return keras.KerasTensor(array.shape, dtype)
