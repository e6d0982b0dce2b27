"""Executions of one `fit`, `evaluate` or `predict`."""

import collections
import sys
import time
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._interrupts import Interrupts
from keras_jax_ext._loop import Program

import jax
import keras
import numpy as np

CallbackList = keras.callbacks.CallbackList
# Callbacks that never look at the model's variables.
BLIND = keras.callbacks.History, keras.callbacks.ProgbarLogger

# Seconds between two updates of a progress bar; without one, how long an
# interrupt may have to wait.
SHOWN, SILENT = 0.1, 0.3
# Executions that are under way at once, at most: one runs while the next ones
# are prepared. More would make Ctrl-C late, and the clock measure nothing.
FLYING = 2


class Mode(NamedTuple):
    """What training, testing and predicting differ in."""

    name: str
    method: str
    state: tuple[str, ...]
    stop: str


_MODEL = ("trainable_variables", "non_trainable_variables")
TRAIN = Mode(
    "train",
    "fit",
    (*_MODEL, "optimizer_variables", "metrics_variables"),
    "stop_training",
)
TEST = Mode(
    "test", "evaluate", (*_MODEL, "metrics_variables"), "stop_evaluating"
)
PREDICT = Mode("predict", "predict", _MODEL, "stop_predicting")


def variables(model, mode):
    """Lists of variables, in the order of the state of a step."""
    return [
        model.optimizer.variables
        if name == "optimizer_variables"
        else getattr(model, name)
        for name in mode.state
    ]


def make_program(model, mode):
    """Make the program of a model's step."""
    step = getattr(model, f"{mode.name}_step")
    if mode is PREDICT:
        predict_step = step

        def step(state, data):
            outputs, non_trainable = predict_step(state, data)
            return outputs, (state[0], non_trainable)

    shardings = None
    if keras.distribution.distribution() is not None:
        shardings = tuple(
            [v.value.sharding for v in group]
            for group in variables(model, mode)
        )
    return Program(
        step,
        place=_keras.place,
        shardings=shardings,
        keeps=mode is PREDICT,
    )


def _hooks(mode):
    names = [f"on_{mode.name}_batch_begin", f"on_{mode.name}_batch_end"]
    return names + ["on_batch_begin", "on_batch_end"] * (mode is TRAIN)


def _overrides(callback, mode):
    return any(
        not _keras.is_default(getattr(callback, name)) for name in _hooks(mode)
    )


def acts_on_epochs(callback):
    """Whether the batch hooks of a callback do nothing, as it was made."""
    savers = keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore
    return type(callback) in savers and callback.save_freq == "epoch"


def watches_batches(callback, mode):
    """Whether a callback must be called after each step.

    Args:
        callback: A Keras callback.
        mode: `Mode`.
    """
    if getattr(callback, "async_safe", False):
        return False
    if isinstance(callback, keras.callbacks.ProgbarLogger):
        return False
    if acts_on_epochs(callback):
        return False
    return _overrides(callback, mode)


class Run:
    """Executions of one `fit`, `evaluate` or `predict`.

    Args:
        model: The model.
        mode: `Mode`.
        callbacks: `CallbackList`.
        program: `Program` of the step.
        pace: `Pace` of the step.
        steps: Integer, the steps of an execution, or `None` to choose.
    """

    def __init__(self, model, mode, callbacks, program, pace, steps):
        self.model, self.mode, self.callbacks = model, mode, callbacks
        self.program, self.pace, self._steps = program, pace, steps
        plain = type(callbacks) is CallbackList
        every = callbacks.callbacks if plain else []
        self.unseen = plain and all(type(c) in BLIND for c in every)
        self.silent = plain and not any(_overrides(c, mode) for c in every)
        if any(watches_batches(c, mode) for c in every) or not plain:
            self._steps = steps or 1
        self.pieces: list[tuple[int, Any]] = []
        self._interrupts = Interrupts(_keras.pythonify_logs)
        self._variables: list[Any] = []
        self._shown_pieces = self._fetched = 0
        self._flying: collections.deque[Any] = collections.deque()
        self._landed = 0.0

    def __enter__(self):
        _keras.own_state(self.model)
        self._interrupts.__enter__()
        return self

    def __exit__(self, *error):
        self._interrupts.__exit__(*error)

    @property
    def group(self):
        """The most steps that one execution will ever take."""
        return self._steps or sys.maxsize

    def reset_metrics(self):
        """Reset the metrics, also those of a state that the loop owns."""
        model, held = self.model, _keras.held_state(self.model)
        values = _keras.reset_values(model)
        if values is None:
            model.reset_metrics()
            values = [v.value for v in model.metrics_variables]
        elif held is None:
            for variable, value in zip(
                model.metrics_variables, values, strict=True
            ):
                _keras.write(variable, value)
        if held is not None:
            held["metrics_variables"] = values

    def epoch(self, iterator, wait=True):
        """Run one pass over the data.

        Args:
            iterator: `EpochIterator`.
            wait: Boolean, whether to return when the last step has run.

        Returns:
            The outputs of the last step, `None` if there was no step.
        """
        model, last = self.model, None
        with iterator.catch_stop_iteration():
            executions = iterator.executions()
            taken = None
            while not getattr(model, self.mode.stop) or taken is None:
                try:
                    begin, left, cursor = executions.send(taken)
                except StopIteration:
                    break
                if not self.silent:
                    self._call("begin", begin)
                last, count = self._execute(cursor, self._limit(left))
                # Keras counts whole executions, also when data run short.
                taken = self._steps or count
                if not self.silent:
                    self._call("end", begin + taken - 1, self._shown(last))
        if wait:
            self._land(0)
        return last

    def end_epoch(self, epoch, logs, unseen):
        """Call the callbacks; `unseen` if they do not look at the model."""
        if not unseen:
            self.callbacks.on_epoch_end(epoch, logs)
            return
        # Cut short, it would leave variables that only seem to have the state.
        with self._interrupts.held(), _keras.unsynced(self.model):
            self.callbacks.on_epoch_end(epoch, logs)

    def _call(self, when, step, *args):
        hook = getattr(self.callbacks, f"on_{self.mode.name}_batch_{when}")
        hook(step, *args)

    def _shown(self, outputs):
        if self.mode is not PREDICT:
            return outputs
        return {"outputs": joined(self.pieces[self._shown_pieces :])}

    def _limit(self, left):
        if self._steps:
            return self._steps
        limit = self.pace.steps(SILENT if self.silent else SHOWN)
        return min(limit, left or limit)

    def _execute(self, cursor, limit):
        """Run `limit` steps, in as many programs as their shapes need."""
        left, self._shown_pieces = limit, len(self.pieces)
        state = self._state()
        while left:
            try:
                piece = cursor.take(left)
            except StopIteration:
                if left == limit:
                    raise
                break
            left -= piece.steps
            for part in piece.parts(self.program.capacity(state, piece)):
                last, state = self._dispatch(part, state)
        return last, limit - left

    def _dispatch(self, piece, state):
        started = time.perf_counter()
        with self._interrupts.held():
            outputs, last, state = self.program(state, piece)
            if self.program.can_fail:
                # It did not take the old state's buffers: wait, and keep
                # those if it fails.
                jax.block_until_ready(state)
                jax.effects_barrier()
            _keras.hold_state(
                self.model, dict(zip(self.mode.state, state, strict=True))
            )
        if self.mode is PREDICT:
            outputs = self._keep(outputs, last, piece)
        elif piece.rest:
            outputs = last
        self._flying.append((started, piece.steps, outputs))
        self._land(FLYING)
        return outputs, state

    def _keep(self, outputs, last, piece):
        """Note predictions; return what to wait for."""
        kept = [(piece.steps - piece.rest, outputs)]
        if piece.rest:
            kept.append((1, jax.tree.map(lambda a: a[None], last)))
        self.pieces.extend(kept)
        return kept

    def _state(self):
        held = _keras.held_state(self.model)
        if held is not None:
            return tuple(held.values())
        # At the start, or a callback looked and may have written.
        self._variables = variables(self.model, self.mode)
        return tuple([v.value for v in group] for group in self._variables)

    def _land(self, most):
        """Wait until `most` executions are under way; learn the pace."""
        while len(self._flying) > most:
            started, count, outputs = self._flying.popleft()
            jax.block_until_ready(outputs)
            if self.mode is PREDICT:
                # Predictions leave the device as they come.
                for piece in jax.device_get(outputs):
                    self.pieces[self._fetched] = piece
                    self._fetched += 1
            now = time.perf_counter()
            self.pace.learn(count, now - max(started, self._landed))
            self._landed = now

    def sync(self):
        """Give the variables the state that the last execution left."""
        held = _keras.held_state(self.model)
        if held is None:
            return
        with self._interrupts.held():
            for group, values in zip(
                self._variables, held.values(), strict=True
            ):
                for variable, value in zip(group, values, strict=True):
                    _keras.write(variable, value)
            _keras.own_state(self.model)


def joined(pieces):
    """Outputs of every step, one after another, in NumPy.

    Args:
        pieces: List of `(count, outputs)`; `outputs` has an axis of steps and
            one of rows, and `count` steps are good.
    """
    cut = [
        jax.tree.map(
            lambda a, n=count: np.asarray(a)[:n].reshape(-1, *a.shape[2:]),
            outputs,
        )
        for count, outputs in pieces
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *cut)
