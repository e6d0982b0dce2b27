"""Where a `fit` is, as one object that is kept and set again.

The state of training is: the variables of the model, its optimizer, metrics and
seed generators; the global random streams; the epoch, the steps taken in it,
and how its rows were shuffled; the `History`, and the state of each callback.
"""

from collections.abc import Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import device
from keras_jax_ext._loop.backup import Backup, Snapshot
from keras_jax_ext._loop.callback_states import (
    check_states,
    read_states,
    set_states,
)
from keras_jax_ext._loop.encoding import decoded, encoded
from keras_jax_ext._loop.epoch_steps import Epochs
from keras_jax_ext._loop.execution import Executor
from keras_jax_ext._loop.modes import TRAIN, state_variables
from keras_jax_ext._loop.parts import is_shared, own_shape

import jax
import jax.numpy as jnp


class Progress:
    """Where the epochs of one `fit` are.

    Args:
        executor: `Executor` of the steps.
        passes: `Epochs`.
        backup: `Backup`; `None` if there is none.
        snapshot: `Snapshot` to go on from; `None` to begin anew.
    """

    def __init__(
        self,
        executor: Executor,
        passes: Epochs,
        backup: Backup | None,
        snapshot: Snapshot | None,
    ) -> None:
        self._running, self._passes = executor, passes
        self._backup, self._snapshot = backup, snapshot
        self._epoch = self._step = 0
        if backup is not None:
            executor.between = self._between
            passes.is_kept = True
        if snapshot and not snapshot.document["step"]:
            self._restore(snapshot)

    def begun(self, epoch: int) -> None:
        """An epoch has begun, and its callbacks know.

        Args:
            epoch: Integer.
        """
        self._epoch, self._step = epoch, 0
        if self._snapshot:
            # Whatever callbacks did now, they had done before the snapshot.
            self._restore(self._snapshot)

    def ended(self) -> None:
        """The epoch has ended."""
        self._keep_if_due(self._epoch + 1, at_end=True)

    def _between(self):
        """Between two executions of an epoch."""
        self._keep_if_due(self._epoch, at_end=False)

    def _keep_if_due(self, epoch, at_end):
        if self._backup is None:
            return
        taken, self._step = self._passes.step - self._step, self._passes.step
        if self._backup.is_due(taken, at_end):
            step = 0 if at_end else self._step
            self._backup.keep(self._snapshot_at(epoch, step))

    def _snapshot_at(self, epoch, step):
        running = self._running
        # Callbacks are to know the steps and epochs that have ended.
        running.telling.settle()
        return take(
            running.model,
            running.state.take(),
            running.callbacks.callbacks,
            epoch=epoch,
            step=step,
            data=self._passes.position(),
            last=running.last,
        )

    def _restore(self, snapshot):
        self._snapshot = None
        arrays, document = snapshot
        executor, passes = self._running, self._passes
        executor.state.sync()
        write_variables(executor.model, arrays)
        passes.go_to(decoded(document["data"], arrays), document["step"])
        self._step = document["step"]
        # Of a source that says no length, no step may be left.
        executor.last = decoded(document["last"], arrays)
        set_states(executor.callbacks.callbacks, document["callbacks"], arrays)


def take(
    model: Any,
    state: Sequence[Any],
    callbacks: Sequence[Any],
    **document: Any,
) -> Snapshot:
    """Take a snapshot.

    Args:
        model: The model.
        state: Lists of arrays: the state of its step.
        callbacks: List of callbacks.
        **document: What else is kept, by name: numbers, strings, arrays, and
            lists and dicts of these.

    Returns:
        `Snapshot`.
    """
    states, held = read_states(callbacks)
    # The next execution takes the buffers: copy them on the device.
    values = jax.tree.leaves(_copied(state))
    arrays = dict(zip(_variables(model), values, strict=True))
    known = {k: encoded(v, k, held) for k, v in document.items()}
    return Snapshot({**arrays, **held}, {**known, "callbacks": states})


@jax.jit
def _copied(state):
    return jax.tree.map(jnp.copy, state)


def _variables(model):
    """The variables of the state of training, by a name for each.

    By number: names of layers differ between models made one after another.
    """
    groups = zip(TRAIN.state, state_variables(model, TRAIN), strict=True)
    return {f"{name}/{i}": v for name, g in groups for i, v in enumerate(g)}


def check(model: Any, callbacks: Sequence[Any], snapshot: Snapshot) -> None:
    """Raise if a snapshot is of another model or of other callbacks.

    Args:
        model: A compiled model.
        callbacks: List of callbacks.
        snapshot: `Snapshot`.

    Raises:
        ValueError: If so.
    """
    arrays = snapshot.arrays
    variables = _variables(model)
    kept = {name for name in arrays if name.partition("/")[0] in TRAIN.state}
    faults = [f"{name!r} is missing" for name in variables if name not in kept]
    faults += [f"{name!r} has no place" for name in sorted(kept - {*variables})]
    for name, variable in variables.items():
        shape = own_shape(variable.value)
        if name in kept and tuple(arrays[name].shape) != shape:
            theirs = tuple(arrays[name].shape)
            faults.append(f"{name!r} has shape {theirs}, not {shape}")
    if faults:
        shown = faults[:5] + ["..."] * (len(faults) > 5)
        raise ValueError(
            "Training goes on with the model and optimizer that a backup is "
            f"of. Received: a backup in which {'; '.join(shown)}. Make them as "
            "they were, or give another `backup_dir`."
        )
    check_states(callbacks, snapshot.document["callbacks"])


def write_variables(model: Any, arrays: dict[str, Any]) -> None:
    """Give the variables of a model the values of a snapshot.

    Args:
        model: A compiled model.
        arrays: Arrays by name.
    """
    for name, variable in _variables(model).items():
        value = device.put_like(arrays[name], variable.value)
        if is_shared():
            # An assignment would compare the values of all processes.
            _keras.write(variable, value)
        else:
            variable.assign(value)
