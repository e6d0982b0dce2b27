"""What an optax transformation is."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard


class Transformation(Protocol):
    """A pair of functions, as optax makes them; `optax.MultiSteps` is one."""

    @property
    def init(self) -> Callable[..., Any]:
        """Function from a tree of parameters to the first state."""

    @property
    def update(self) -> Callable[..., Any]:
        """Function from gradients, state, parameters and extra arguments.

        It returns a tree of updates, and the next state.
        """


def is_transformation(value: Any) -> TypeGuard[Transformation]:
    """Whether `value` is a transformation, told without importing optax."""
    return (
        not inspect.isclass(value)
        and callable(getattr(value, "init", None))
        and callable(getattr(value, "update", None))
    )
