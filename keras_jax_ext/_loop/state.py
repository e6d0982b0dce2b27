"""Who has a model's state: its variables, or the loop.

Between two executions the loop holds the arrays, since writing each variable
takes longer than a small step. Keras's flag for this makes `callback.model`
write them first.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.interrupts import Interrupts
from keras_jax_ext._loop.modes import Mode, numbers, state_variables


class State:
    """The state of a model's step, in its variables or held by the loop.

    Args:
        model: The model.
        mode: `Mode`.
        interrupts: `Interrupts`, deferred while the state changes hands.
    """

    def __init__(self, model: Any, mode: Mode, interrupts: Interrupts) -> None:
        self.model, self._mode = model, mode
        self._interrupts = interrupts
        self._groups: list[list[Any]] = []
        # Whether the variables have the values of the state that is held.
        self._is_shown = False

    def take(self) -> tuple[Any, ...]:
        """The state for the next execution: a list of arrays for each group."""
        held = _keras.held_state(self.model)
        if held is not None and not (self._is_shown and self._differs(held)):
            return tuple(held.values())
        # The first execution, or a callback looked and has written since.
        self._is_shown = False
        _keras.own_state(self.model)
        self._groups = state_variables(self.model, self._mode)
        return tuple([v.value for v in group] for group in self._groups)

    def hold(self, state: tuple[Any, ...]) -> None:
        """Keep the state that an execution returned."""
        named = dict(zip(self._mode.state, state, strict=True))
        _keras.hold_state(self.model, named)
        self._is_shown = False

    def show(self) -> None:
        """Write the variables, while the loop goes on to hold the state.

        Code that reaches a variable past `callback.model` does not sync it.
        """
        held = _keras.held_state(self.model)
        if held is not None and not self._is_shown:
            self._write(held)
            self._is_shown = True

    def sync(self) -> None:
        """Give the variables the state that the last execution left."""
        held = _keras.held_state(self.model)
        if held is None or (self._is_shown and self._differs(held)):
            _keras.own_state(self.model)
            return
        with self._interrupts.held():
            self._write(held)
            _keras.own_state(self.model)

    def reset_metrics(self, values: list[Any] | None) -> None:
        """Reset the metrics, in the state that is held too.

        Args:
            values: Arrays, the metrics' variables after a reset; `None` if
                only the metrics know.
        """
        model = self.model
        if values is None or self._is_shown:
            self.sync()
        if values is None:
            model.reset_metrics()
            return
        held = _keras.held_state(model)
        if held is not None:
            held["metrics_variables"] = values
            return
        for variable, value in zip(
            model.metrics_variables, values, strict=True
        ):
            _keras.write(variable, value)

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Within the block nobody reads the variables, so none is written."""
        # Cut short, it would leave variables that only seem to have the state.
        with self._interrupts.held(), _keras.unsynced(self.model):
            yield

    @contextlib.contextmanager
    def at_steps(self) -> Iterator[Callable[[Sequence[Any]], None]]:
        """Within the block the optimizer's numbers can be those of a step.

        Callbacks that log each step read its count and its learning rate.

        Yields:
            Function of values of `numbers(model, mode)`.
        """
        self.show()
        variables = numbers(self.model, self._mode)
        last: Sequence[Any] = [_keras.written(v) for v in variables]
        shown = last

        def show(values: Sequence[Any]) -> None:
            nonlocal shown
            shown = values
            for variable, value in zip(variables, shown, strict=True):
                _keras.write(variable, value)

        with _keras.unsynced(self.model):
            try:
                yield show
            finally:
                # What a callback has written stays, for the next execution.
                for variable, value, seen in zip(
                    variables, last, shown, strict=True
                ):
                    if _keras.written(variable) is seen:
                        _keras.write(variable, value)

    def _write(self, held):
        for variable, value in self._pairs(held):
            _keras.write(variable, value)

    def _differs(self, held):
        """Whether somebody wrote into the variables since they were shown."""
        return any(
            _keras.written(variable) is not value
            for variable, value in self._pairs(held)
        )

    def _pairs(self, held):
        for group, values in zip(self._groups, held.values(), strict=True):
            yield from zip(group, values, strict=True)
