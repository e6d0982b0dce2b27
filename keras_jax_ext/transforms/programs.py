"""A function of Keras variables as one program, whose inputs they are."""

from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras

import jax
import keras


class Scope(keras.StatelessScope):
    """A scope within another one, that knows what was written and read.

    Args:
        pairs: List of variables, each with its value.
    """

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        super().__init__(pairs, collect_losses=True)
        self.written: dict[int, Any] = {}
        self.read: dict[int, Any] = {}
        self._outer = _keras.current_scope()

    def add_update(self, update: tuple[Any, Any]) -> None:
        """As Keras's.

        Args:
            update: Tuple of a variable and its new value.
        """
        super().add_update(update)
        self.written[id(update[0])] = update[0]

    def get_current_value(self, variable: Any) -> Any:
        """As Keras's; a value of the outer scope if there is none here.

        Args:
            variable: A variable.
        """
        self.read[id(variable)] = variable
        value = super().get_current_value(variable)
        if value is None and self._outer is not None:
            return self._outer.get_current_value(variable)
        return value


class Compiled:
    """A function as one program; what it writes to variables is written.

    Args:
        function: Function of arrays, that may call models and layers.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._inputs: list[Any] = []
        self._written: list[Any] = []
        self._program: Any = None

    def forget(self) -> None:
        """Have the next call find the variables anew."""
        self._program = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program.

        Args:
            *args: Structures of arrays.
            **kwargs: Further ones.

        Raises:
            ValueError: If another call reads other variables.
        """
        if self._program is None:
            self._find_inputs(args, kwargs)
            self._program = jax.jit(self._pure)
        values = [v.value for v in self._inputs]
        result, new = self._program(values, args, kwargs)
        for variable, value in zip(self._written, new, strict=True):
            variable.assign(value)
        return result

    def _find_inputs(self, args, kwargs):
        """Run once, unseen, to build models and see what is read."""
        with Scope([]) as scope:
            self._function(*args, **kwargs)
        found = {**scope.read, **scope.written}
        self._inputs = list(found.values())
        self._written = list(scope.written.values())

    def _pure(self, values, args, kwargs):
        pairs = list(zip(self._inputs, values, strict=True))
        with Scope(pairs) as scope:
            result = self._function(*args, **kwargs)
        new = [scope.get_current_value(v) for v in self._written]
        known = {id(v) for v in self._inputs}
        missed = [v.path for i, v in scope.read.items() if i not in known]
        if missed:
            raise ValueError(
                "A compiled step reads the same variables in each call. "
                f"Received: {missed[:3]}, not read in the first one. Give "
                "`jit=False`."
            )
        return result, new
