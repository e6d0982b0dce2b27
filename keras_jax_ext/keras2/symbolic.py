"""Functions of arrays that are operations of a functional model, too."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import keras
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
# Stands for a tensor among the arguments.
_TENSOR = "a tensor"
_functions: dict[str, Callable[..., Any]] = {}


@keras.saving.register_keras_serializable("keras_jax_ext")
class Computed(keras.Operation):
    """A function of this package on tensors of a functional model."""

    def __init__(
        self, function: str, arguments: Any, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.function = function
        # Numbers that are known are none of the call: shapes depend on them.
        self.arguments = arguments

    def call(self, *tensors: Any) -> Any:
        """Call the function.

        Args:
            *tensors: What its arguments hold of tensors, in order.
        """
        left = iter(tensors)
        args, kwargs = keras.tree.map_structure(
            lambda x: next(left) if _is_tensor(x) else x, self.arguments
        )
        return _functions[self.function](*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """As Keras, with the function and what it is given besides tensors."""
        return {
            "function": self.function,
            "arguments": self.arguments,
            "name": self.name,
        }


def of_tensors(function: F) -> F:
    """Let a function of arrays take the tensors of a functional model."""
    name = getattr(function, "__name__", "")
    _functions[name] = function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = keras.tree.flatten([args, kwargs])
        tensors = [x for x in given if isinstance(x, keras.KerasTensor)]
        if not tensors:
            return function(*args, **kwargs)
        arguments = keras.tree.map_structure(_without_tensors, [args, kwargs])
        return Computed(name, arguments)(*tensors)

    return call  # type: ignore[return-value]


def _without_tensors(leaf):
    if isinstance(leaf, keras.KerasTensor):
        return _TENSOR
    known = isinstance(leaf, np.ndarray | np.generic | jax.Array)
    return np.asarray(leaf).tolist() if known else leaf


def _is_tensor(leaf):
    return isinstance(leaf, str) and leaf == _TENSOR
