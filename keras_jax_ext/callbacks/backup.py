"""`BackupAndRestore`: training that was killed goes on, bit for bit."""

import datetime
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from keras_jax_ext._loop.agreement import Agreement, agreement
from keras_jax_ext._loop.backup import Snapshot
from keras_jax_ext._loop.between_epochs import follow
from keras_jax_ext.callbacks._backup_folder import Folder

import keras

# What a process that SIGTERM ends returns to its shell.
TERMINATED = 128 + signal.SIGTERM


class BackupAndRestore(keras.callbacks.Callback):
    """Back up the state of training, and go on from it after an interruption.

    A script that was killed, and is started again with the same arguments,
    ends with the weights, the optimizer's state, the metrics, the callbacks'
    state and the `History` of one that was not, bit for bit. The data are
    arrays, Grain, or a `PyDataset` whose batches depend on their number, or
    which has `get_state()` and `set_state(state)`. A stock model, or one that
    trains in Keras's own loop, is backed up at the end of epochs.

    Example:

    ```python
    backup = kje.callbacks.BackupAndRestore("backup")
    model.compile("adam", "mse")
    model.fit(x, y, epochs=3, callbacks=[backup], verbose=0)
    ```

    Kept are: the variables of the model, its optimizer, metrics and seed
    generators; the global streams of Python, NumPy and Keras; the epoch, the
    step in it and the order of the rows; the `History`; and the attributes of
    Keras's callbacks and those derived from them. A callback of another class
    keeps what it returns from `get_state()`, numbers, strings, arrays, lists
    and dicts, and is given it by `set_state(state)`.

    Files are written by a thread while training goes on, each beside the last
    good one. The two newest stay. Where several processes share the model, give
    it to each of them: each keeps its own state in a folder of its own, and all
    go on from the same step.

    Args:
        backup_dir: Path of a folder, for this training alone.
        save_freq: `"epoch"`; an integer, at least so many steps; or a
            `datetime.timedelta`. By steps or time a backup is made between
            two executions of the compiled loop. `False` for none but that of
            `save_before_preemption`. Defaults to `"epoch"`.
        double_checkpoint: Ignored: two backups are kept.
        delete_checkpoint: Boolean, whether to delete the backups when training
            has ended. Defaults to `True`.
        save_before_preemption: Boolean, whether SIGTERM ends training with a
            backup and exit code 143. Defaults to `False`.
        replay: Boolean, whether to take generators and other sources: the
            batches of all epochs before the interruption are read once more
            and dropped. Defaults to `False`.
        strict: Boolean, whether a backup that cannot be written is an error.
            If not, it is a warning, and training goes on. Defaults to `False`.

    Raises:
        ValueError: If `save_freq` is something else; in `fit`, if the data
            cannot be read again, if Keras's own loop is to be backed up within
            epochs, or if the backup is of another model or damaged.
    """

    # For the loop: it is given the state.
    reads_no_weights = True

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int | datetime.timedelta = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
        *,
        save_before_preemption: bool = False,
        replay: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__()
        del double_checkpoint
        self._check(save_freq)
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self.save_before_preemption = save_before_preemption
        self.replay = replay
        self.strict = strict
        self._is_asked = False
        self._number = self._steps = 0
        self._saved_at = time.monotonic()
        self._writer: threading.Thread | None = None
        self._failure: OSError | None = None
        # What this process told of, and the others do not know.
        self._told = ""
        self._folder = Folder(self.backup_dir, None)
        self._agreed: Agreement | None = None
        # The newest backups: that of this process, and that of all.
        self._good = self._common = 0
        self._term_handler: Any = None
        self._is_terminated = False

    @staticmethod
    def _check(save_freq):
        steps = isinstance(save_freq, int) and not isinstance(save_freq, bool)
        if (
            save_freq is not False
            and save_freq != "epoch"
            and not (steps and save_freq > 0)
            and not isinstance(save_freq, datetime.timedelta)
        ):
            raise ValueError(
                '`save_freq` is "epoch", a number of steps, or a time. '
                f"Received: save_freq={save_freq!r} (of type "
                f"{type(save_freq).__name__}). For ten seconds give "
                "`datetime.timedelta(seconds=10)`."
            )

    # What the loop asks.

    def begin(self) -> Snapshot | None:
        """Return the newest good backup; `None` if there is none."""
        self._is_asked = True
        self._steps, self._saved_at = 0, time.monotonic()
        self._failure, self._is_terminated = None, False
        self._listen()
        self._agreed = agreement()
        self._folder = Folder(self.backup_dir, self._agreed)
        self._number, snapshot = self._folder.newest()
        self._good = self._common = self._number
        return snapshot

    def is_due(self, steps: int, at_end: bool) -> bool:
        """Whether to keep a snapshot now.

        Args:
            steps: Integer, the steps since it was asked last.
            at_end: Boolean, whether an epoch has just ended.
        """
        due = self._is_due(steps, at_end)
        if self._agreed is None:
            return due
        failure, self._told = self._told, ""
        mine = [due, self._is_terminated, self._good, failure]
        every = self._agreed.gather("a backup", mine)
        dues, terminated, good, failures = zip(*every, strict=True)
        self._is_terminated = any(terminated)
        self._common = min(good)
        elsewhere = next(filter(None, failures), "")
        if elsewhere and not failure:
            self._tell(OSError(elsewhere))
        return any(dues)

    def _is_due(self, steps, at_end):
        self._steps += steps
        if self._is_terminated:
            return True
        if self._writer is not None and self._writer.is_alive():
            return at_end and self.save_freq == "epoch"
        self._tell_failure()
        if self.save_freq is False:
            return False
        if isinstance(self.save_freq, datetime.timedelta):
            passed = time.monotonic() - self._saved_at
            return passed >= self.save_freq.total_seconds()
        if isinstance(self.save_freq, int):
            return self._steps >= self.save_freq
        return at_end

    def keep(self, snapshot: Snapshot) -> None:
        """Write a snapshot while training goes on.

        Args:
            snapshot: `Snapshot`.
        """
        self._wait()
        self._steps, self._saved_at = 0, time.monotonic()
        self._number += 1
        self._writer = threading.Thread(
            target=self._write,
            args=(self._number, self._common, snapshot),
            name="BackupAndRestore",
        )
        self._writer.start()
        if self._is_terminated:
            self._wait()
            raise SystemExit(TERMINATED)

    def end(self) -> None:
        """The `fit` has ended, or failed."""
        self._is_asked = False
        if self._term_handler is not None:
            signal.signal(signal.SIGTERM, self._term_handler)
            self._term_handler = None
        self._wait()

    def on_train_begin(self, logs: Any = None) -> None:
        del logs
        if self._is_asked:
            return
        between = self.save_freq in ("epoch", False)
        if not between or self.save_before_preemption or self.replay:
            raise ValueError(
                "Keras's own loop is backed up between two epochs, with data "
                "that need not be read once more. Received: "
                f"{type(self.model).__name__}, which trains in it, with "
                f"save_freq={self.save_freq!r}, save_before_preemption="
                f"{self.save_before_preemption} and replay={self.replay}. "
                "Leave them out, or train a `kje.Model` in its compiled loop."
            )
        follow(self, self.model)

    def on_train_end(self, logs: Any = None) -> None:
        del logs
        self.end()
        if self.delete_checkpoint:
            if self._agreed is not None:
                # A process that has not ended may need the others' backups.
                self._agreed.gather("the end of backups", None)
            self._folder.delete()

    def _write(self, number, common, snapshot):
        try:
            self._folder.write(number, snapshot)
            self._folder.forget(common)
            self._good = number
        except OSError as error:
            self._failure = error

    def _wait(self):
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        self._tell_failure()

    def _tell_failure(self):
        failure, self._failure = self._failure, None
        if failure is not None:
            self._told = str(failure)
            self._tell(failure)

    def _tell(self, failure):
        if self.strict:
            raise failure
        warnings.warn(
            f"A backup was not written, and training goes on: {failure}. The "
            f"last good one stays in {self.backup_dir}.",
            stacklevel=2,
        )

    def _listen(self):
        """Have SIGTERM end training at the next step that can be kept."""
        main = threading.current_thread() is threading.main_thread()
        if not (self.save_before_preemption and main):
            return

        def terminate(number, frame):
            del number, frame
            self._is_terminated = True

        self._term_handler = signal.signal(signal.SIGTERM, terminate)
