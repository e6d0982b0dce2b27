"""Metrics of an epoch, read from a step where they would be the same."""

import functools
import inspect
from pathlib import Path
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.device import shardings
from keras_jax_ext._loop.memo import memo

import jax
import keras

# The files of Keras in which the resets of its own metrics are written.
_HOME = Path(inspect.getfile(keras.Metric)).parents[1]
_METRICS = str(_HOME / "metrics"), str(_HOME / "trainers" / "compile_utils")
# If each of these is Keras's or ours, the logs of a step are the metrics'
# results after the step.
_LOGS = (
    "train_step",
    "test_step",
    "compute_metrics",
    "get_metrics_result",
    "reset_metrics",
)


def steps_log_metrics(model: Any) -> bool:
    """Whether the logs of a step are the metrics' results after it.

    Args:
        model: A model of ours.
    """
    stepped = memo(model).stepped or model
    modules = [getattr(type(stepped), name).__module__ for name in _LOGS]
    known = all(m.startswith(("keras.", "keras_jax_ext.")) for m in modules)
    return known and not set(_LOGS) & set(vars(stepped))


def reset_values(model: Any) -> list[jax.Array] | None:
    """Make the values that the metrics' variables have after a reset.

    Keras's metrics set each variable to zeros, for which `assign` takes 40 us.

    Args:
        model: A compiled model.

    Returns:
        List of arrays; `None` if only the metrics know.
    """
    each = list(model.metrics)
    for metric in each:
        # Keras keeps those that `compile` is given in a metric of its own.
        each += getattr(metric, "metrics", [])
    plain = steps_log_metrics(model) and all(map(_resets_plainly, each))
    if not plain:
        return None
    variables = model.metrics_variables
    shapes = tuple((v.shape, v.dtype) for v in variables)
    layouts = shardings([variables])
    return _zeros(shapes, layouts and tuple(layouts[0]))()


def _resets_plainly(metric):
    """Whether the reset of a metric is Keras's, which sets zeros."""
    if "reset_state" in vars(metric):
        return False
    # The file of a method: `__module__` may be copied by a wrapper.
    code = getattr(type(metric).reset_state, "__code__", None)
    return code is not None and code.co_filename.startswith(_METRICS)


@functools.cache
def _zeros(shapes, layouts):
    """A compiled function, ten times as fast as `device_put` of zeros."""

    def make():
        return [jax.numpy.zeros(*shape) for shape in shapes]

    return jax.jit(make, out_shardings=layouts and list(layouts))


def epoch_logs(model: Any, last: Any) -> dict[str, Any]:
    """The logs of an epoch, given those of its last step.

    Asking the metrics again takes as long as ten small steps, so it is left
    out where it would give the same numbers.

    Args:
        model: A compiled model.
        last: Dict, the logs of the last step; `None` if there was no step.

    Returns:
        Dict.

    Raises:
        ValueError: If there was no step.
    """
    if last is None:
        raise ValueError(
            "An epoch needs at least one batch, and the data have none left. "
            "Received: a source that ended at once."
        )
    if not steps_log_metrics(model):
        last = _keras.metrics_result(model, last)
    memo(model).hear(last)
    return dict(last)
