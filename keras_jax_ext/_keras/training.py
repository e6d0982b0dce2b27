"""What an own `fit` keeps of Keras's trainer.

The loop is rewritten in `_fused.py` and `_run.py`; these are the pieces of
Keras's that it goes on using. Replaced by: a public epoch iterator, and a
public step seam.
"""

import contextlib
import functools
from typing import Any

import jax
import keras
import numpy as np

# ruff: isort: off
from keras.src.backend.jax.trainer import (
    JAXEpochIterator as StockEpochIterator,
)
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter as ArrayDataAdapter,
)
from keras.src.trainers.data_adapters.array_slicing import (
    train_validation_split as train_validation_split,
)

# Whether a callback's hook is Keras's empty one. No public counterpart.
from keras.src.utils import is_default as is_default

# Python floats from the logs of a step. No public counterpart.
from keras.src.utils.python_utils import (
    pythonify_logs as pythonify_logs,
)
# ruff: isort: on


class EpochIterator(StockEpochIterator):
    """Keras's count of steps and epochs, over cursors of ours.

    Until `open` is set it yields Keras's own batches: building the model draws
    one, and with it a permutation, exactly as stock Keras does.

    Attributes:
        open: Function without arguments that begins a pass over the data. The
            cursor it returns has `allow(steps)`, `take(limit)`, `close()`.
        given: What the caller wants to remember of the arguments.
    """

    open: Any = None
    given: Any = None
    _current_iterator: Any = None

    def _get_iterator(self):
        return self.open() if self.open else super()._get_iterator()

    def executions(self):
        """Yield `(step, steps left or None, cursor)` until an epoch ends.

        Send the number of steps taken. A cursor that runs dry raises
        `StopIteration` in the caller, for `catch_stop_iteration`.
        """
        self.data_adapter.on_epoch_begin()
        total = self.steps_per_epoch or self._num_batches
        if self._current_iterator is None or not self.steps_per_epoch:
            self.close()
            self._current_iterator = self._get_iterator()
            self._steps_seen = 0
        # Whole executions, as Keras counts them.
        every = self.steps_per_execution
        self._current_iterator.allow(total and -(-total // every) * every)
        step = 0
        while not total or step < total:
            if self._num_batches and self._steps_seen >= self._num_batches:
                if self.steps_per_epoch:
                    self._interrupted_warning()
                break
            left = total - step if total else None
            taken = yield step, left, self._current_iterator
            step += taken
            self._steps_seen += taken
        if self._num_batches and self._steps_seen >= self._num_batches:
            self.close()
        self.data_adapter.on_epoch_end()

    def close(self):
        """End the pass that is under way, and the thread that reads it."""
        if hasattr(self._current_iterator, "close") and self.open:
            self._current_iterator.close()
        self._current_iterator = None


def all_rows(adapter, data, options):
    """Arrays as Keras would cut batches from them: converted and weighted.

    Args:
        adapter: The `ArrayDataAdapter` made of them.
        data: Tuple `(x, y, sample_weight)`.
        options: Dict, what else that adapter was made with.

    Returns:
        Structure of arrays of all rows.
    """
    rows = adapter.num_batches * adapter.batch_size
    whole = ArrayDataAdapter(*data, batch_size=rows, **options)
    return next(iter(whole.get_jax_iterator()))


def share_epoch(adapter, other):
    """Let another adapter shuffle as this one would now."""
    # Keras 3.15 shuffles by NumPy's stream, 3.16 by the number of the epoch.
    if hasattr(adapter, "_epoch"):
        other._epoch = adapter._epoch


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
    plain = steps_log_metrics(model) and all(
        type(metric).reset_state.__module__.startswith("keras.")
        for metric in each
    )
    if not plain or keras.distribution.distribution() is not None:
        return None
    shapes = tuple((v.shape, v.dtype) for v in model.metrics_variables)
    return _zeros(shapes)()


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


def put(batches, *, stacked):
    """Put arrays where a batch belongs.

    Args:
        batches: Structure of arrays: one batch, or several of them.
        stacked: Boolean, whether their first axis counts batches.
    """
    if keras.distribution.distribution() is None:
        return jax.tree.map(_on_device, batches)
    return jax.tree.map(
        lambda a: jax.device_put(a, _layout(a, int(stacked))), batches
    )


def _on_device(array):
    """An array where a program on the one device can use it."""
    # The memory of a CPU is the device's: programs take NumPy's arrays, at a
    # tenth of the price of `device_put`. Not those that JAX has to convert.
    usable = isinstance(array, np.ndarray) and (
        jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
    )
    if usable and jax.default_backend() == "cpu":
        return array
    return jax.device_put(array)


def put_whole(arrays):
    """Put arrays on every device."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return jax.device_put(arrays)
    mesh = distribution.device_mesh.backend_mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(arrays, everywhere)


def place(batch):
    """Constrain a batch within a program to where `distribution` wants it."""
    if keras.distribution.distribution() is None:
        return batch

    def constrain(array):
        return jax.lax.with_sharding_constraint(array, _layout(array, 0))

    return jax.tree.map(constrain, batch)


def _layout(array, lead):
    """The sharding of a batch behind `lead` axes that are not sharded.

    A batch that the devices cannot share evenly is copied to each.
    """
    distribution = keras.distribution.distribution()
    layout = distribution.get_data_layout(array.shape[lead:])
    sharding = layout.backend_layout
    axes = sharding.spec + (None,) * (array.ndim - lead - len(sharding.spec))
    sizes = [
        sharding.mesh.shape[axis] if axis is not None else 1 for axis in axes
    ]
    if any(n % size for n, size in zip(array.shape[lead:], sizes, strict=True)):
        axes = (None,) * len(axes)
    spec = jax.sharding.PartitionSpec(*(None,) * lead, *axes)
    return jax.sharding.NamedSharding(sharding.mesh, spec)
