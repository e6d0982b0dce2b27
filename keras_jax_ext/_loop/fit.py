"""The fused forms of `fit`, `evaluate` and `predict`."""

import inspect
import warnings
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import validation
from keras_jax_ext._loop.execution import Run, joined
from keras_jax_ext._loop.memo import notes, say
from keras_jax_ext._loop.modes import PREDICT, TEST, TRAIN, make_program
from keras_jax_ext._loop.opening import opened
from keras_jax_ext._loop.program import Pace
from keras_jax_ext._loop.watching import CallbackList
from keras_jax_ext._xla.faults import disables_jit

import jax
import keras


def _why_not(model, mode):
    """The reason why this model cannot run many steps in a program."""
    name = f"{mode.name}_function"
    made = getattr(model, name)
    if model.run_eagerly:
        return "the model is compiled with run_eagerly=True"
    if not model.jit_compile:
        return "the model is compiled with jit_compile=False"
    if disables_jit():
        return "jax.disable_jit() is on"
    if keras.config.is_nnx_enabled():
        return "Keras is in NNX mode"
    if jax.process_count() > 1:
        return "several processes share the work"
    replaced = _keras.replaced(mode.method)
    if replaced:
        return f"{replaced} has replaced keras.Model.{mode.method}"
    make = getattr(type(model), f"make_{name}")
    if not make.__module__.startswith("keras_jax_ext."):
        return f"{type(model).__name__} overrides make_{name}"
    if made is not None and inspect.unwrap(made) is not notes(
        model
    ).functions.get(mode):
        return f"{name} was set by hand"
    return None


def _build(model, iterator):
    """Build the model from Keras's own first batch, then read ours."""
    if iterator.open is None:
        _keras.build(model, iterator)
    iterator.reset()


def _callback_list(model, callbacks, verbose, epochs, iterator, **kwargs):
    if isinstance(callbacks, CallbackList):
        return callbacks
    return CallbackList(
        callbacks,
        add_progbar=verbose != 0,
        verbose=verbose,
        epochs=epochs,
        steps=iterator.num_batches,
        model=model,
        **kwargs,
    )


def _capped(epochs):
    most = keras.config.max_epochs()
    if most and most < epochs:
        warnings.warn(f"Limiting epochs to {most}", stacklevel=4)
        return most
    return epochs


def _logs(model, last):
    if last is None:
        raise ValueError(
            "An epoch needs at least one batch, and the data have none left. "
            "Received: a source that ended at once."
        )
    return _keras.epoch_logs(model, last)


def _shape(array):
    return getattr(array, "shape", None)


def fuses(model, mode, verbose):
    """Whether this call runs fused; say once why if not."""
    why = _why_not(model, mode)
    if why:
        say(model, f"{mode.name}: one step at a time, since {why}.", verbose)
    return not why


def iterate(model, x, y=None, sample_weight=None, *, steps=None, **options):
    """Keras's iterator over any data; it reads batches until `_open`."""
    iterator = _keras.EpochIterator(
        x,
        y,
        sample_weight,
        steps_per_epoch=steps,
        steps_per_execution=model.steps_per_execution,
        **options,
    )
    iterator.given = (x, y, sample_weight), options
    if iterator.num_batches == 0:
        raise ValueError(
            "An epoch needs at least one batch, and the data have none. "
            f"Received: shapes {jax.tree.map(_shape, (x, y))}."
        )
    return iterator


def _open(model, iterator, run, verbose, **options):
    """Let an iterator hand out many batches at a time."""
    if iterator.open is None:

        def tell(what):
            say(model, f"{run.mode.name}: {what}", verbose)

        iterator.open = opened(model, iterator, run, tell, **options)


def _run(model, mode, callbacks):
    noted = notes(model)
    if mode not in noted.programs:
        noted.programs[mode] = make_program(model, mode)
    pace = noted.paces.setdefault(mode, Pace())
    steps = None if noted.auto_steps else noted.steps_per_execution
    return Run(model, mode, callbacks, noted.programs[mode], pace, steps)


def _tell_watchers(model, run, verbose):
    """Say once why `"auto"` is one step."""
    if run.watched.watchers:
        names = " and ".join(dict.fromkeys(run.watched.watchers))
        say(
            model,
            f"{run.mode.name}: one step at a time, since {names} acts on "
            "batches. With compile(steps_per_execution=32) it is called every "
            "32 steps.",
            verbose,
        )


def fit(model, x, y, sample_weight, **options):
    validation.check(options["validation_data"])
    epochs = _capped(options["epochs"])
    if options["validation_split"] and options["validation_data"] is None:
        (x, y, sample_weight), options["validation_data"] = (
            _keras.train_validation_split(
                (x, y, sample_weight),
                validation_split=options["validation_split"],
            )
        )
    iterator = iterate(
        model,
        x,
        y,
        sample_weight,
        steps=options["steps_per_epoch"],
        **{k: options[k] for k in ("batch_size", "shuffle", "class_weight")},
    )
    model._eval_epoch_iterator = None
    _build(model, iterator)
    callbacks = _callback_list(
        model,
        options["callbacks"],
        options["verbose"],
        epochs,
        iterator,
        add_history=True,
    )
    model.make_train_function()
    model.stop_training = False
    callbacks.on_train_begin()
    first = _keras.first_epoch(model, options["initial_epoch"])
    try:
        with _run(model, TRAIN, callbacks) as run:
            _tell_watchers(model, run, options["verbose"])
            _open(
                model,
                iterator,
                run,
                options["verbose"],
                epochs=epochs - first,
                sources=(options["validation_data"],),
            )
            logs = _epochs(model, run, iterator, range(first, epochs), options)
    finally:
        iterator.close()
        _keras.release_state(model)
        _end_validation(model)
        if (
            isinstance(model.optimizer, keras.optimizers.Optimizer)
            and epochs > 0
        ):
            model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.on_train_end(logs)
    return model.history


def _epochs(model, run, iterator, epochs, options):
    """Train for some epochs; return the logs of the last."""
    callbacks, logs = run.callbacks, {}
    validates = options["validation_data"] is not None
    seen = not run.watched.unseen or validates
    unseen = not seen and _keras.steps_log_metrics(model)
    if unseen and run.watched.silent:
        return _epochs_ahead(model, run, iterator, epochs)
    for epoch in epochs:
        run.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        if run.watched.meddles:
            run.watch()
        last = run.epoch(iterator)
        if not unseen:
            run.sync()
        logs = _logs(model, last)
        if validates and _keras.should_validate(
            model, epoch, options["validation_freq"]
        ):
            logs |= _validate(model, callbacks, options)
        run.end_epoch(epoch, logs, unseen)
        if model.stop_training:
            break
    run.sync()
    return logs


def _epochs_ahead(model, run, iterator, epochs):
    """As `_epochs`, each begun before the logs of the last have come.

    Python works while the device does, since nothing looks at the model.
    """
    ended: list[Any] = []
    logs: Any = {}

    def end():
        while ended:
            run.end_epoch(*ended.pop(), unseen=True)

    try:
        for epoch in epochs:
            run.reset_metrics()
            last = run.epoch(iterator, wait=False)
            end()
            logs = _logs(model, last)
            ended.append((epoch, logs))
            if model.stop_training:
                break
    finally:
        end()
    run.sync()
    return logs


def _validate(model, callbacks, options):
    data = keras.utils.unpack_x_y_sample_weight(options["validation_data"])
    given = {
        "batch_size": options["validation_batch_size"] or options["batch_size"],
        "steps": options["validation_steps"],
    }
    if model._eval_epoch_iterator is None and fuses(model, TEST, 0):
        model._eval_epoch_iterator = iterate(model, *data, **given)
    elif model._eval_epoch_iterator is None:
        model._eval_epoch_iterator = _keras.StockEpochIterator(
            *data,
            batch_size=given["batch_size"],
            steps_per_epoch=given["steps"],
            steps_per_execution=model.steps_per_execution,
        )
    logs = model.evaluate(
        x=data[0],
        y=data[1],
        sample_weight=data[2],
        callbacks=callbacks,
        return_dict=True,
        _use_cached_eval_dataset=True,
        **given,
    )
    return {f"val_{name}": value for name, value in logs.items()}


def _end_validation(model):
    iterator = model._eval_epoch_iterator
    if isinstance(iterator, _keras.EpochIterator):
        iterator.close()
    model._eval_epoch_iterator = None


def evaluate(model, iterator, verbose, given):
    _build(model, iterator)
    callbacks = _callback_list(model, given, verbose, 1, iterator)
    model.make_test_function()
    model.stop_evaluating = False
    callbacks.on_test_begin()
    with _run(model, TEST, callbacks) as run:
        if callbacks is not given:
            _tell_watchers(model, run, verbose)
        run.reset_metrics()
        _open(model, iterator, run, verbose)
        try:
            last = run.epoch(iterator)
        finally:
            if iterator is not getattr(model, "_eval_epoch_iterator", None):
                iterator.close()
        run.sync()
        logs = _keras.pythonify_logs(_logs(model, last))
    callbacks.on_test_end(logs)
    _keras.release_state(model)
    return logs


def predict(model, iterator, verbose, callbacks):
    callbacks = _callback_list(model, callbacks, verbose, 1, iterator)
    model.make_predict_function()
    model.stop_predicting = False
    callbacks.on_predict_begin()
    with _run(model, PREDICT, callbacks) as run:
        _tell_watchers(model, run, verbose)
        _open(model, iterator, run, verbose)
        try:
            run.epoch(iterator)
        finally:
            iterator.close()
        run.sync()
    callbacks.on_predict_end()
    _keras.release_state(model)
    return joined(run.pieces)
