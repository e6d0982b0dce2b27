"""Drives one `fit`, `evaluate` or `predict`.

Feeds the compiled program, calls the callbacks, keeps the state.
"""

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop import parts
from keras_jax_ext._loop.agreement import agreement
from keras_jax_ext._loop.batches import Cursor, Span
from keras_jax_ext._loop.epoch_steps import Epochs
from keras_jax_ext._loop.interrupts import Interrupts
from keras_jax_ext._loop.memo import Pace, memo
from keras_jax_ext._loop.metrics import reset_values
from keras_jax_ext._loop.modes import (
    LOGS,
    PREDICT,
    PREDICTIONS,
    Mode,
    make_program,
    numbers_in,
)
from keras_jax_ext._loop.state import State
from keras_jax_ext._loop.telling import Kept, Telling, last_logs
from keras_jax_ext._loop.turns import reading
from keras_jax_ext._loop.watching import Watch
from keras_jax_ext._xla.faults import is_lost, note_lost
from keras_jax_ext._xla.processes import network_gives_way

import jax
import numpy as np

# Seconds between two updates of a progress bar. Without a bar: the longest
# that an interrupt has to wait.
BAR_SECONDS, QUIET_SECONDS = 0.1, 0.3
# Executions in flight. One runs while the next is prepared; more would delay
# Ctrl-C and make the measured pace meaningless.
IN_FLIGHT = 2
_NOTHING: Any = contextlib.nullcontext()
LEFT = (
    "If another process has ended, this one cannot go on: see its output, and "
    "start all of them again. `kje.callbacks.BackupAndRestore` in each of them "
    "goes on where they were."
)


class Executor:
    """Runs the executions of one `fit`, `evaluate` or `predict`.

    Args:
        model: A built model.
        mode: `Mode`.
        callbacks: `CallbackList`.
    """

    def __init__(self, model: Any, mode: Mode, callbacks: Any) -> None:
        known = memo(model)
        if mode not in known.programs:
            known.programs[mode] = make_program(model, mode)
        self.model, self.mode, self.callbacks = model, mode, callbacks
        self.program = known.programs[mode]
        self.predictions: Kept = []
        self._logged: Kept = []
        self._before: list[Any] | None = None
        # The number of the first step of the execution.
        self._begin = 0
        self._pace = known.paces.setdefault(mode, Pace())
        auto = known.auto_steps
        self._given_steps = None if auto else known.steps_per_execution
        self._agreed = agreement()
        self._network = network_gives_way() if self._agreed else _NOTHING
        self._interrupts = Interrupts(
            _keras.pythonify_logs, waits=self._agreed is not None
        )
        self.state = State(model, mode, self._interrupts)
        self.telling = Telling(callbacks, mode, self.state)
        self._shown_from = self._fetched = 0
        self._in_flight: collections.deque[Any] = collections.deque()
        self._landed = 0.0
        # The outputs of the last step of the running epoch.
        self.last: Any = None
        # The most steps of the next execution; how many of them follow until
        # processes agree again; whether callbacks of one act on batches.
        self._most, self._rounds, self._some_act = 1, 0, False
        # Called when the first execution's program is being compiled.
        self.meanwhile: Callable[[], None] | None = None
        # Called between two executions of an epoch.
        self.between: Callable[[], None] = lambda: None
        self.watch()

    def watch(self) -> None:
        """Ask what the callbacks do: hooks may be set while training."""
        alone = self._agreed is None
        self.watched = Watch.of(self.callbacks, self.mode, alone)
        one = 1 if self.watched.watchers else None
        self._steps = self._given_steps or one
        # What an execution keeps of each of its steps.
        self._keep = PREDICTIONS if self.mode is PREDICT else None
        if self.watched.logs_each and self._steps is None:
            self._keep = LOGS

    def may_change_data(self) -> bool:
        """Whether code of the user runs between epochs."""
        return self.watched.meddles or self.program.runs_code

    def __enter__(self) -> "Executor":
        _keras.own_state(self.model)
        self._interrupts.__enter__()
        self._network.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._network.__exit__(*error)
        self._interrupts.__exit__(*error)

    def agreed_most(self) -> int:
        """The most steps that one execution will ever take."""
        return min(self.agree("most steps", self._steps or sys.maxsize))

    def reset_metrics(self) -> None:
        """Reset the metrics, as at the beginning of an epoch."""
        self.state.reset_metrics(reset_values(self.model))

    def epoch(self, epochs: Epochs, wait: bool = True) -> Any:
        """Run one pass over the data.

        Args:
            epochs: `Epochs`.
            wait: Boolean, whether to return when the last step has run.

        Returns:
            The outputs of the last step, `None` if there was no step.
        """
        try:
            with self._telling_lost(), epochs.until_dry():
                self._executions(epochs)
            if wait:
                with self._telling_lost():
                    self._land(0)
                self.telling.settle()
        except BaseException:
            # What ran before is known to the callbacks, as with Keras.
            self.telling.settle()
            if self._logged and not self.telling.failed:
                self._tell()
                self.telling.settle()
            raise
        last, self.last = self.last, None
        return last

    def _executions(self, epochs):
        """Run the executions of an epoch."""
        quiet = self.watched.no_batch_hooks
        executions = epochs.executions()
        taken = None
        while self._goes_on(taken is None):
            try:
                begin, remaining, cursor = executions.send(taken)
            except StopIteration:
                break
            if taken is not None:
                self.between()
            self._begin = begin
            if not quiet and self._keep is not LOGS:
                self._call("begin", begin)
            if self._some_act:
                # Of a hook that failed the others know before they wait
                # for its process's gradients.
                self.agree("begun", None)
            limit = self._limit(remaining)
            try:
                self.last, count = self._execute(cursor, limit)
            except StopIteration:
                self.last, count = self._execute(epochs.renewed(), limit)
            # Keras counts whole executions, also when data run short.
            taken = self._most if self._most == self._steps else count
            self.telling.settle()
            if self._keep is LOGS:
                self.last = self._tell()
            elif not quiet:
                shown = self._shown(self.last)
                self._call("end", begin + taken - 1, shown)

    def end_epoch(self, epoch: int, logs: dict[str, Any], unread: bool) -> None:
        """Call the callbacks.

        Args:
            epoch: Integer.
            logs: Dict of logs.
            unread: Boolean, whether no callback reads the model.
        """
        unread_state = self.state.unread() if unread else _NOTHING
        with unread_state, self.in_order():
            self.callbacks.on_epoch_end(epoch, logs)

    def in_order(self) -> Any:
        """Within the block hooks are called, which may write files.

        Keras's callbacks make folders for them, and delete them, if there is
        none or one: the first of several processes does so alone.
        """
        if self._agreed is None:
            return _NOTHING
        # Weights that are cut between them are saved by all at once.
        waits = self.watched.saves and not parts.cut(self.model)
        return self._agreed.first_first("hooks", waits)

    @contextlib.contextmanager
    def _telling_lost(self) -> Iterator[None]:
        """Say so where a failing device has taken the weights with it."""
        try:
            yield
        except BaseException as error:
            if self._agreed and isinstance(error, jax.errors.JaxRuntimeError):
                error.add_note(LEFT)
            state = self.state.take()
            if is_lost(state, wait=isinstance(error, Exception)):
                note_lost(error)
                # The variables would raise for it.
                _keras.disown_state(self.model)
            raise

    def _call(self, when, step, *args):
        hook = getattr(self.callbacks, f"on_{self.mode.name}_batch_{when}")
        if self.watched.meddles:
            self.state.show()
        ends = self._some_act and when == "end"
        with self.in_order() if ends else _NOTHING:
            hook(step, *args)

    def _tell(self):
        """Call the hooks for each step of the last execution, in order.

        Returns:
            The logs of the last step, or what they can be read from.
        """
        kept, self._logged = self._logged, []
        before, self._before = self._before, None
        begin = self._begin
        if not self.watched.defers:
            self._land(0)
            self.telling.steps(begin, kept, before)
            return last_logs(kept)

        def tell():
            self.telling.steps(begin, kept)
            if self.last is kept:
                self.last = last_logs(kept)

        self.telling.later(tell)
        return kept

    def logs_of(self, last: Any) -> Any:
        """The logs of a last step, of which callbacks may not know yet.

        Args:
            last: From `epoch`.
        """
        kept = self._keep is LOGS and isinstance(last, list)
        return last_logs(last) if kept else last

    def agree(self, about: str, value: Any) -> list[Any]:
        """What each process says that shares the model; this one, if alone.

        An interrupt comes now: others know of it when they agree.

        Args:
            about: String, the name of the point.
            value: What this process says, as JSON holds it.
        """
        if self._agreed is None:
            return [value]
        self._interrupts.release()
        return self._agreed.gather(f"{self.mode.method}: {about}", value)

    def stops(self) -> bool:
        """Whether a callback of any process has asked to stop."""
        asked = bool(getattr(self.model, self.mode.stop))
        return any(self.agree("stop", asked))

    def _goes_on(self, first):
        """Whether to run an execution more, and agree on its steps."""
        stop = not first and bool(getattr(self.model, self.mode.stop))
        self._most = self._steps or self._pace.steps(self._seconds)
        if self._agreed is None:
            return not stop
        self._rounds = 0 if first else self._rounds - 1
        if self._rounds > 0:
            # Nothing of the user runs between executions so short.
            return True
        rounds = max(1, self._pace.steps(self._seconds) // self._most)
        acts = self.watched.acts
        mine = [stop, acts, self._most, 1 if acts else rounds]
        every = self.agree("execution", mine)
        stops, acting, *least = zip(*every, strict=True)
        self._some_act = any(acting)
        self._most, self._rounds = map(min, least)
        return not any(stops)

    def _shown(self, outputs):
        if self.mode is not PREDICT:
            return outputs
        return {"outputs": joined(self.predictions[self._shown_from :])}

    @property
    def _seconds(self):
        """How long an execution is to last."""
        quiet = self.watched.no_batch_hooks
        return QUIET_SECONDS if quiet else BAR_SECONDS

    def _limit(self, remaining):
        whole = self._most == self._steps
        return self._most if whole else min(self._most, remaining or self._most)

    def _execute(self, cursor: Cursor, limit: int):
        """Run `limit` steps, in as many programs as their shapes need."""
        remaining, self._shown_from = limit, len(self.predictions)
        while remaining:
            try:
                span = self._take(cursor, remaining)
            except StopIteration:
                if remaining == limit:
                    raise
                break
            remaining -= span.steps
            # After the source was read: its code may write to the model.
            state = self.state.take()
            self._note_numbers(state)
            room = self.program.room(state, span, self._keep)
            if self.meanwhile is not None:
                self._compile_both(self.meanwhile, span, state)
            for cut in span.split(room):
                last, state = self._dispatch(cut, state)
        return last, limit - remaining

    def _note_numbers(self, state):
        """Keep those before an execution, for hooks at a batch's begin."""
        wanted = self._keep is LOGS and not self.watched.no_begin_hooks
        if wanted and self._before is None:
            self._before = [np.asarray(a) for a in numbers_in(state)]

    def _compile_both(self, others, span, state):
        """Compile the program of a span, and others at the same time."""
        self.meanwhile = None
        if not self.program.is_new:
            return
        with self._interrupts.held():
            self.program.begin(self.trace(span, state))
            # A step that calls Python may change what others do.
            if not self.program.runs_code:
                others()

    def trace(self, span: Span, state: Any = None) -> Any:
        """Trace the program of a span.

        Args:
            span: `Span`.
            state: The state of a step. Defaults to `None`, that of now.

        Returns:
            As `Program.trace`.
        """
        state = self.state.take() if state is None else state
        room = self.program.room(state, span, self._keep)
        return self.program.trace(state, next(span.split(room)), self._keep)

    def _take(self, cursor: Cursor, most: int) -> Span:
        if not cursor.runs_code:
            return cursor.take(most)
        self.state.show()
        with reading(self.model):
            return cursor.take(most)

    def _dispatch(self, span: Span, state):
        # Not within `held`: a Ctrl-C ends the wait for the compiler.
        self.program.wait()
        started = time.perf_counter()
        # The program takes the old state's buffers: an interrupt before the
        # new ones are held would lose both.
        with self._interrupts.held():
            outputs, tail_outputs, state = self.program(state, span, self._keep)
            if self.program.can_fail:
                # It left the old buffers alone: wait, and keep them if it
                # fails.
                jax.block_until_ready(state)
                jax.effects_barrier()
            self.state.hold(state)
        if self._keep is not None:
            outputs = _kept(outputs, tail_outputs, span)
            logs = self._keep is LOGS
            (self._logged if logs else self.predictions).extend(outputs)
        elif span.has_tail:
            outputs = tail_outputs
        if not jax.tree.leaves(outputs):
            # Nothing else says when the steps have run.
            jax.block_until_ready(state)
        self._in_flight.append((started, span.steps, outputs))
        self._land(IN_FLIGHT)
        return outputs, state

    def _land(self, most):
        """Wait until at most `most` executions run; learn the pace."""
        while len(self._in_flight) > most:
            started, steps, outputs = self._in_flight.popleft()
            jax.block_until_ready(outputs)
            if self.mode is PREDICT:
                # Predictions leave the device as they come.
                for count, kept in outputs:
                    self.predictions[self._fetched] = count, parts.fetch(kept)
                    self._fetched += 1
            now = time.perf_counter()
            self._pace.learn(steps, now - max(started, self._landed))
            self._landed = now


def _kept(outputs, of_tail, span):
    """Pairs of a number of steps and what was kept of them, and room."""
    kept = [(span.steps - span.has_tail, outputs)]
    if span.has_tail:
        kept.append((1, of_tail))
    return kept


def joined(predictions: Kept) -> Any:
    """Join the outputs of every step, one after another, in NumPy.

    Args:
        predictions: List of `(count, outputs)`; `outputs` has an axis of steps
            and one of rows, and the first `count` steps are good.

    Returns:
        Structure of NumPy arrays.
    """
    cut = [
        jax.tree.map(
            lambda a, n=count: np.asarray(a)[:n].reshape(-1, *a.shape[2:]),
            outputs,
        )
        for count, outputs in predictions
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *cut)
