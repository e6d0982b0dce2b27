"""Executions of one `fit`, `evaluate` or `predict`."""

import collections
import contextlib
import sys
import time
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.interrupts import Interrupts
from keras_jax_ext._loop.modes import PREDICT, variables
from keras_jax_ext._loop.turns import reading
from keras_jax_ext._loop.watching import Watch
from keras_jax_ext._xla.faults import is_lost, note_lost

import jax
import numpy as np

# Seconds between two updates of a progress bar; without one, how long an
# interrupt may have to wait.
SHOWN, SILENT = 0.1, 0.3
# Executions that are under way at once, at most: one runs while the next ones
# are prepared. More would make Ctrl-C late, and the clock measure nothing.
FLYING = 2


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
        self.program, self.pace = program, pace
        self._given_steps = steps
        self.pieces: list[tuple[int, Any]] = []
        self._interrupts = Interrupts(_keras.pythonify_logs)
        self._variables: list[Any] = []
        self._shown_pieces = self._fetched = 0
        self._flying: collections.deque[Any] = collections.deque()
        self._landed = 0.0
        # Whether the variables have the values of the state that is held.
        self._shows = False
        self.watch()

    def watch(self):
        """Ask what the callbacks do: hooks may be set while training."""
        self.watched = Watch.of(self.callbacks, self.mode)
        one = 1 if self.watched.watchers else None
        self._steps = self._given_steps or one

    def may_change_data(self):
        """Whether code of the user runs between epochs."""
        return self.watched.meddles or self.program.can_fail

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
        model, values = self.model, _keras.reset_values(self.model)
        if values is None:
            self.sync()
            model.reset_metrics()
            return
        if self._shows:
            self.sync()
        held = _keras.held_state(model)
        if held is not None:
            held["metrics_variables"] = values
            return
        for variable, value in zip(
            model.metrics_variables, values, strict=True
        ):
            _keras.write(variable, value)

    def epoch(self, iterator, wait=True):
        """Run one pass over the data.

        Args:
            iterator: `EpochIterator`.
            wait: Boolean, whether to return when the last step has run.

        Returns:
            The outputs of the last step, `None` if there was no step.
        """
        model, last = self.model, None
        silent = self.watched.silent
        with self._telling_lost(), iterator.catch_stop_iteration():
            executions = iterator.executions()
            taken = None
            while not getattr(model, self.mode.stop) or taken is None:
                try:
                    begin, left, cursor = executions.send(taken)
                except StopIteration:
                    break
                if not silent:
                    self._call("begin", begin)
                last, count = self._execute(cursor, self._limit(left))
                # Keras counts whole executions, also when data run short.
                taken = self._steps or count
                if not silent:
                    self._call("end", begin + taken - 1, self._shown(last))
        if wait:
            with self._telling_lost():
                self._land(0)
        return last

    @contextlib.contextmanager
    def _telling_lost(self):
        """Say so where a failing device has taken the weights with it."""
        try:
            yield
        except BaseException as error:
            if is_lost(self._state(), wait=isinstance(error, Exception)):
                note_lost(error)
                # Not given to the variables, which would raise for it.
                _keras.disown_state(self.model)
            raise

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
        if self.watched.meddles:
            self.show()
        hook(step, *args)

    def _shown(self, outputs):
        if self.mode is not PREDICT:
            return outputs
        return {"outputs": joined(self.pieces[self._shown_pieces :])}

    def _limit(self, left):
        if self._steps:
            return self._steps
        limit = self.pace.steps(SILENT if self.watched.silent else SHOWN)
        return min(limit, left or limit)

    def _execute(self, cursor, limit):
        """Run `limit` steps, in as many programs as their shapes need."""
        left, self._shown_pieces = limit, len(self.pieces)
        while left:
            try:
                piece = self._take(cursor, left)
            except StopIteration:
                if left == limit:
                    raise
                break
            left -= piece.steps
            # After the source was read, which may look at the model.
            state = self._state()
            for part in piece.parts(self.program.capacity(state, piece)):
                last, state = self._dispatch(part, state)
        return last, limit - left

    def _take(self, cursor, most):
        """The next piece of the data, which may be code of the user."""
        if not cursor.runs_code:
            return cursor.take(most)
        self.show()
        with reading(self.model):
            return cursor.take(most)

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
            self._shows = False
        if self.mode is PREDICT:
            outputs = self._keep(outputs, last, piece)
        elif piece.rest:
            outputs = last
        if not jax.tree.leaves(outputs):
            # Nothing else says when the steps have run.
            jax.block_until_ready(state)
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
        if held is not None and (not self._shows or self._is_as_shown(held)):
            return tuple(held.values())
        # At the start, or a callback looked and may have written.
        self._shows = False
        _keras.own_state(self.model)
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

    def show(self):
        """Let the variables be read, while the loop goes on to own the state.

        Who reaches them past the `model` of a callback does not sync it.
        """
        held = _keras.held_state(self.model)
        if held is not None and not self._shows:
            for variable, value in self._pairs(held):
                _keras.write(variable, value)
            self._shows = True

    def _is_as_shown(self, held):
        """Whether nobody wrote into the variables since they were shown."""
        return all(
            _keras.written(variable) is value
            for variable, value in self._pairs(held)
        )

    def _pairs(self, held):
        for group, values in zip(self._variables, held.values(), strict=True):
            yield from zip(group, values, strict=True)

    def sync(self):
        """Give the variables the state that the last execution left."""
        held = _keras.held_state(self.model)
        if held is None or (self._shows and not self._is_as_shown(held)):
            _keras.own_state(self.model)
            return
        with self._interrupts.held():
            for variable, value in self._pairs(held):
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
