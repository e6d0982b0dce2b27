"""Backups of Keras's own loop: between two epochs, as far as it can be known.

Its callbacks are not given what `fit` holds. One that is the last of the list
sees all others when they have begun, and when they have ended an epoch.
"""

from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import progress
from keras_jax_ext._loop.backup import Backup, check_data
from keras_jax_ext._loop.callback_states import append_to_files, set_states
from keras_jax_ext._loop.encoding import decoded
from keras_jax_ext._loop.epoch_steps import Epochs
from keras_jax_ext._loop.modes import TRAIN, state_variables
from keras_jax_ext._loop.readers import holders, why_not_again
from keras_jax_ext._loop.validation import Validation

import keras


def follow(backup: Backup, model: Any) -> None:
    """Back up the `fit` of Keras that calls `on_train_begin` of a callback.

    Args:
        backup: `Backup`, the callback.
        model: Its model.

    Raises:
        ValueError: If it cannot be, or if its backup is of another training.
    """
    running = _keras.running_fit()
    if running is None:
        raise ValueError(
            "Training is backed up in the `fit` of Keras or of this package. "
            f"Received: {type(model).__name__}, whose `fit` is another one. "
            "Save its weights by a callback of your own."
        )
    every, counter = running["callbacks"], running["epoch_iterator"]
    _check(counter, running["validation_data"])
    # Those of a `fit` that failed, if the list is the user's.
    for old in [c for c in every.callbacks if isinstance(c, BetweenEpochs)]:
        every.callbacks.remove(old)
    given = [*every.callbacks]
    data = counter.data_adapter, running["validation_data"]
    last = BetweenEpochs(backup, given, Epochs(counter, _none, holders(*data)))
    last.set_model(model)
    if last.snapshot:
        progress.check(model, given, last.snapshot)
        append_to_files(given)
    every.callbacks.append(last)


def _none():
    raise NotImplementedError


def _check(counter, validation_data):
    """Raise if the data of the next epoch depend on more than is kept."""
    adapter = counter.data_adapter
    why = why_not_again(adapter)
    if why is None and counter.steps_per_epoch not in (
        None,
        adapter.num_batches,
    ):
        why = f"epochs of {counter.steps_per_epoch} steps, which are no pass"
    check_data(why, why)
    Validation(validation_data, None, None, 1).check_again()


class BetweenEpochs(keras.callbacks.Callback):
    """The last callback of a `fit` of Keras, which backs it up.

    Args:
        backup: `Backup`.
        callbacks: List of the callbacks before it.
        passes: `Epochs`, which are asked for what is known between them.
    """

    def __init__(
        self, backup: Backup, callbacks: list[Any], passes: Epochs
    ) -> None:
        super().__init__()
        self._backup, self._callbacks = backup, callbacks
        self._passes = passes
        self.snapshot = backup.begin()

    def on_train_begin(self, logs: Any = None) -> None:
        del logs
        if self.snapshot is None:
            return
        (arrays, document), self.snapshot = self.snapshot, None
        progress.write_variables(self.model, arrays)
        self._passes.go_to(decoded(document["data"], arrays), 0)
        set_states(self._callbacks, document["callbacks"], arrays)
        _keras.begin_with_epoch(self.model, document["epoch"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        # It was read; a later `fit` starts with its own.
        _keras.forget_first_epoch(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        del logs
        if self.model.stop_training or not self._backup.is_due(1, True):
            return
        groups = state_variables(self.model, TRAIN)
        snapshot = progress.take(
            self.model,
            [[v.value for v in group] for group in groups],
            self._callbacks,
            epoch=epoch + 1,
            step=0,
            data=self._passes.position(),
            last=None,
        )
        self._backup.keep(snapshot)
