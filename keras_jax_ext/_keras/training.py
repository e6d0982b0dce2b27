"""What an own `fit` keeps of Keras's trainer.

The loop is rewritten in `_fused.py` and `_run.py`; these are the pieces of
Keras's that it goes on using. Replaced by: a public epoch iterator, and a
public step seam.
"""

import contextlib
import functools
import inspect
from pathlib import Path

import jax
import keras

# ruff: isort: off
# Whether a callback's hook is Keras's empty one. No public counterpart.
from keras.src.utils import is_default as is_default

# Python floats from the logs of a step. No public counterpart.
from keras.src.utils.python_utils import (
    pythonify_logs as pythonify_logs,
)
# ruff: isort: on


# Where the resets of Keras's own metrics are written.
_HOME = Path(inspect.getfile(keras.Metric)).parents[1]
_METRICS = str(_HOME / "metrics"), str(_HOME / "trainers" / "compile_utils")


def build(model, epoch_iterator):
    """Build what `fit` and `evaluate` need, from one batch of the data."""
    # Keras 3.16 renamed the method that decides whether there is need.
    builder = getattr(model, "_maybe_symbolic_build", model._symbolic_build)
    builder(iterator=epoch_iterator)


def write(variable, array):
    """Set a variable to an array that a compiled step made for it.

    `variable.assign` converts and checks for 5 us each, more than a small
    model's whole step; the array has the variable's shape, type and layout.
    """
    variable._value = array


def written(variable):
    """What `write` or an assignment has put into a variable."""
    return variable._value


def check_compiled(model, what):
    """Raise unless the model is compiled, with Keras's message."""
    model._assert_compile_called(what)


def cached_iterator(model):
    """The iterator over the validation data of the `fit` that is running."""
    return model._eval_epoch_iterator


def replaced(method):
    """The module that has put a function of its own in place of Keras's.

    Tools that log runs replace `keras.Model.fit`; theirs has to be called.

    Args:
        method: String, the name of a method of `keras.Model`.

    Returns:
        String, or `None` if it is Keras's own.
    """
    function = getattr(keras.Model, method)
    # Not `__module__`, which `functools.wraps` copies.
    found = getattr(function, "__globals__", {}).get("__name__", "another")
    return None if found.startswith("keras.") else found


def should_validate(model, epoch, frequency):
    """Whether an epoch is followed by validation."""
    return model._should_eval(epoch, frequency)


def first_epoch(model, initial_epoch):
    """The epoch to start with: `BackupAndRestore` may have set one."""
    return model._initial_epoch or initial_epoch


def in_order(model, logs):
    """Logs as a list in the order of the model's metrics."""
    return model._flatten_metrics_in_order(logs)


# Each of them is Keras's or ours in a model whose logs of a step are what its
# metrics say after the step.
_LOGS = (
    "train_step",
    "test_step",
    "compute_metrics",
    "get_metrics_result",
    "reset_metrics",
)


def steps_log_metrics(model):
    """Whether the logs of a step are what the metrics say after it."""
    modules = [getattr(type(model), name).__module__ for name in _LOGS]
    known = all(m.startswith(("keras.", "keras_jax_ext.")) for m in modules)
    return known and not set(_LOGS) & set(vars(model))


def reset_values(model):
    """What the metrics' variables are after a reset; `None` if unknown.

    Keras's metrics set each variable to zeros, for which `assign` takes 40 us.
    """
    each = list(model.metrics)
    for metric in each:
        # Keras keeps those that `compile` is given in a metric of its own.
        each += getattr(metric, "metrics", [])
    plain = steps_log_metrics(model) and all(map(_resets_plainly, each))
    if not plain or keras.distribution.distribution() is not None:
        return None
    shapes = tuple((v.shape, v.dtype) for v in model.metrics_variables)
    return _zeros(shapes)()


def _resets_plainly(metric):
    """Whether the reset of a metric is Keras's, which sets zeros."""
    if "reset_state" in vars(metric):
        return False
    # Where a method was written, whatever its module is said to be.
    code = getattr(type(metric).reset_state, "__code__", None)
    return code is not None and code.co_filename.startswith(_METRICS)


@functools.cache
def _zeros(shapes):
    """A compiled function, ten times as fast as `device_put` of zeros."""
    return jax.jit(lambda: [jax.numpy.zeros(*shape) for shape in shapes])


def epoch_logs(model, logs):
    """The logs of an epoch, given those of its last step.

    Asking the metrics again takes as long as ten small steps, so it is left
    out where it would give the same numbers.
    """
    if steps_log_metrics(model):
        return dict(logs)
    return dict(model._get_metrics_result_or_logs(logs))


def hold_state(model, state):
    """Let the loop own the state: a callback that looks at the model syncs."""
    # Past `__setattr__`, which would wrap every list of it in a tracker.
    vars(model).update(_jax_state=state, _jax_state_synced=False)


def held_state(model):
    """The state that the loop owns; `None` when the variables have it."""
    return None if model._jax_state_synced else model._jax_state


def own_state(model):
    """Say that the variables have the state."""
    model._jax_state_synced = True


def disown_state(model):
    """Forget a state that is lost."""
    model._jax_state = None
    model._jax_state_synced = True


@contextlib.contextmanager
def unsynced(model):
    """Let what does not look at the variables have the model as it is."""
    synced = model._jax_state_synced
    vars(model)["_jax_state_synced"] = True
    try:
        yield
    finally:
        vars(model)["_jax_state_synced"] = synced


def release_state(model):
    """End the loop's hold on the state: the variables have it again."""
    model.jax_state_sync()
    model._jax_state = None
    model._jax_state_synced = True


def forget_losses(model):
    """Drop the losses of a forward pass whose step did not come to its end.

    The next step would otherwise add them to its own.
    """
    model._losses_override = []
