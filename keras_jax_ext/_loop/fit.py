"""The epochs of `fit`, and the one pass of `evaluate` and `predict`."""

import functools
import warnings
from collections.abc import Iterable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import progress, validation
from keras_jax_ext._loop.ahead import ahead
from keras_jax_ext._loop.backup import backed_up, backup_of
from keras_jax_ext._loop.callback_states import append_to_files
from keras_jax_ext._loop.epoch_steps import Epochs
from keras_jax_ext._loop.execution import Executor, joined
from keras_jax_ext._loop.memo import tell
from keras_jax_ext._loop.metrics import epoch_logs, steps_log_metrics
from keras_jax_ext._loop.modes import PREDICT, TEST, TRAIN
from keras_jax_ext._loop.progress import Progress
from keras_jax_ext._loop.source import Source
from keras_jax_ext._loop.validation import Validation
from keras_jax_ext._loop.watching import CallbackList

import keras


def fit(
    model: Any,
    source: Source,
    validation_given: Validation,
    *,
    epochs: int,
    initial_epoch: int,
    callbacks: Any,
    verbose: Any,
) -> Any:
    """Train a model.

    Args:
        model: A compiled model.
        source: `Source` of the training data.
        validation_given: `Validation`.
        epochs: As in `keras.Model.fit`.
        initial_epoch: As in `keras.Model.fit`.
        callbacks: As in `keras.Model.fit`.
        verbose: As in `keras.Model.fit`.

    Returns:
        The `History`.
    """
    validation.end(model)
    source.build()
    callbacks = _callback_list(
        model, callbacks, verbose, source, epochs=epochs, add_history=True
    )
    model.make_train_function()
    model.stop_training = False
    backup = backup_of(callbacks.callbacks, source, validation_given)
    with backed_up(backup) as snapshot:
        if snapshot:
            progress.check(model, callbacks.callbacks, snapshot)
            append_to_files(callbacks.callbacks)
        callbacks.on_train_begin()
        first = _keras.first_epoch(model, initial_epoch)
        if snapshot:
            first = snapshot.document["epoch"]
        try:
            with Executor(model, TRAIN, callbacks) as executor:
                _tell_watchers(executor, verbose)
                passes = source.epochs(
                    executor,
                    verbose,
                    passes=epochs - first,
                    others=(validation_given.data,),
                )
                numbers = range(first, epochs)
                executor.meanwhile = ahead(
                    model, source, validation_given, callbacks, first
                )
                reached = Progress(executor, passes, backup, snapshot)
                logs = _epochs(
                    executor, passes, numbers, validation_given, reached
                )
        finally:
            _keras.release_state(model)
            validation.end(model)
            if (
                isinstance(model.optimizer, keras.optimizers.Optimizer)
                and epochs > 0
            ):
                model.optimizer.finalize_variable_values(
                    model.trainable_weights
                )
    with executor.in_order():
        callbacks.on_train_end(logs)
    return model.history


def _epochs(
    executor: Executor,
    passes: Epochs,
    numbers: Iterable[int],
    validates: Validation,
    reached: Progress,
) -> Any:
    """Train for some epochs; return the logs of the last."""
    model, callbacks, logs = executor.model, executor.callbacks, {}
    reads = not executor.watched.weights_unread or validates.data is not None
    unread = not reads and steps_log_metrics(model)
    watched = executor.watched
    if unread and (watched.no_batch_hooks or watched.defers):
        return _epochs_ahead(executor, passes, numbers, reached)
    for epoch in numbers:
        executor.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        if executor.watched.meddles:
            executor.watch()
        reached.begun(epoch)
        last = executor.epoch(passes)
        if not unread:
            executor.state.sync()
        logs = epoch_logs(model, last)
        if validates.follows(model, epoch):
            logs |= validates.logs(model, callbacks)
        executor.end_epoch(epoch, logs, unread)
        if executor.stops():
            break
        reached.ended()
    executor.state.sync()
    return logs


def _epochs_ahead(executor, passes, numbers, reached):
    """As `_epochs`, each begun before the logs of the last have come.

    Python works while the device does, since nobody reads the model.
    """
    logs: Any = {}

    def end(epoch, last):
        nonlocal logs
        logs = epoch_logs(executor.model, executor.logs_of(last))
        executor.end_epoch(epoch, logs, unread=True)

    try:
        for epoch in numbers:
            executor.reset_metrics()
            reached.begun(epoch)
            last = executor.epoch(passes, wait=False)
            executor.telling.later(functools.partial(end, epoch, last))
            if executor.stops():
                break
            reached.ended()
    finally:
        executor.telling.settle()
    executor.state.sync()
    return logs


def evaluate(
    model: Any, source: Source, verbose: Any, given: Any
) -> dict[str, Any]:
    """Evaluate a model in one pass.

    Args:
        model: A compiled model.
        source: `Source` of the data.
        verbose: As in `keras.Model.evaluate`.
        given: Callbacks, as in `keras.Model.evaluate`.

    Returns:
        Dict of logs.
    """
    source.build()
    callbacks = _callback_list(model, given, verbose, source)
    model.make_test_function()
    model.stop_evaluating = False
    callbacks.on_test_begin()
    with Executor(model, TEST, callbacks) as executor:
        if callbacks is not given:
            _tell_watchers(executor, verbose)
        executor.reset_metrics()
        last = executor.epoch(source.epochs(executor, verbose))
        executor.state.sync()
        logs = _keras.pythonify_logs(epoch_logs(model, last))
    callbacks.on_test_end(logs)
    _keras.release_state(model)
    return logs


def predict(model: Any, source: Source, verbose: Any, callbacks: Any) -> Any:
    """Compute the outputs for all of the data.

    Args:
        model: A built model.
        source: `Source` of the data.
        verbose: As in `keras.Model.predict`.
        callbacks: As in `keras.Model.predict`.

    Returns:
        NumPy arrays, in the structure of the outputs.
    """
    callbacks = _callback_list(model, callbacks, verbose, source)
    model.make_predict_function()
    model.stop_predicting = False
    callbacks.on_predict_begin()
    with Executor(model, PREDICT, callbacks) as executor:
        _tell_watchers(executor, verbose)
        executor.epoch(source.epochs(executor, verbose))
        executor.state.sync()
    callbacks.on_predict_end()
    _keras.release_state(model)
    return joined(executor.predictions)


def capped(epochs: int) -> int:
    """`epochs`, or the fewer that `keras.config.set_max_epochs` allows."""
    most = keras.config.max_epochs()
    if most and most < epochs:
        warnings.warn(f"Limiting epochs to {most}", stacklevel=4)
        return most
    return epochs


def _callback_list(model, callbacks, verbose, source, epochs=1, **kwargs):
    if isinstance(callbacks, CallbackList):
        return callbacks
    return CallbackList(
        callbacks,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=source.num_batches,
        model=model,
        **kwargs,
    )


def _tell_watchers(executor, verbose):
    """Say once why `"auto"` is one step."""
    if executor.watched.watchers:
        names = " and ".join(dict.fromkeys(executor.watched.watchers))
        tell(
            executor.model,
            f"{executor.mode.name}: one step at a time, since {names} acts on "
            "batches. With compile(steps_per_execution=32) it is called every "
            "32 steps.",
            verbose,
        )
