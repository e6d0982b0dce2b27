"""Variables of one model, and beside each a variable for all members."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from keras_jax_ext import _keras

import jax
import jax.numpy as jnp
import keras


class Stack:
    """The variables of the member that is traced, and their stacked twins.

    A twin has one more axis, the first, with an entry for each member.

    Args:
        count: Integer, how many members there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pairs: dict[int, tuple[Any, Any]] = {}

    def add(
        self, variables: Sequence[Any], values: Sequence[Any] | None = None
    ) -> None:
        """Make the twins of variables.

        Args:
            variables: Variables of the member.
            values: Stacked arrays. Defaults to `None`: what the variables
                have now, for every member.
        """
        if values is None:
            values = [
                jnp.broadcast_to(v.value, (self.count, *v.shape))
                for v in variables
            ]
        for variable, value in zip(variables, values, strict=True):
            self._pairs[id(variable)] = variable, _twin(variable, value)

    def drop(self, variables: Sequence[Any]) -> None:
        """Forget the twins of variables."""
        for variable in variables:
            self._pairs.pop(id(variable), None)

    def of(self, variables: Sequence[Any]) -> list[Any]:
        """The twins of variables; those without one are made."""
        self.add([v for v in variables if id(v) not in self._pairs])
        return [self._pairs[id(v)][1] for v in variables]

    def take(self, i: int) -> None:
        """Give the variables of the member the values of member `i`."""
        for variable, twin in self._pairs.values():
            variable.assign(twin.value[i])

    def run(self, function: Callable[[], Any], *, writes: bool = False) -> Any:
        """Run a function of the member's variables for every member.

        Args:
            function: Function without arguments.
            writes: Boolean, whether what it assigns is kept.

        Returns:
            What it returns, with an axis of members first.
        """
        own = [variable for variable, _ in self._pairs.values()]
        twins = [twin for _, twin in self._pairs.values()]

        def one(values):
            with keras.StatelessScope(list(zip(own, values, strict=True))) as s:
                result = jax.tree.map(jnp.asarray, function())
            return result, [s.get_current_value(v) for v in own]

        result, after = jax.vmap(one)([twin.value for twin in twins])
        if writes:
            for twin, value in zip(twins, after, strict=True):
                twin.assign(value)
        return result


def _twin(variable, value):
    *scopes, name = variable.path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(
            value,
            dtype=_keras.stored_dtype(variable),
            trainable=variable.trainable,
            name=name,
        )
