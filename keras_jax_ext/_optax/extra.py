"""The extra arguments of an update: what a train step knows about its loss."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax


class GivenLoss(NamedTuple):
    """What a train step knows about its loss."""

    value: jax.Array
    gradients: dict[int, jax.Array]  # as differentiated, by id of the variable
    # From a dict of values, by id of the variable, to the loss.
    value_fn: Callable[[dict[int, jax.Array]], jax.Array]


# Keras's optimizers stand between the train step and the update, and have no
# argument for a loss. This is the loss of the step that runs in this thread.
_given: contextvars.ContextVar[GivenLoss | None] = contextvars.ContextVar(
    "given", default=None
)


@contextlib.contextmanager
def giving(loss: GivenLoss) -> Iterator[None]:
    """Give the loss of a train step to the updates within the block."""
    token = _given.set(loss)
    try:
        yield
    finally:
        _given.reset(token)


def given_loss() -> GivenLoss | None:
    """Return the loss of the train step that runs, or `None`."""
    return _given.get()


# Whether the gradients of the step that runs in this thread have a first axis
# of examples.
_stacked: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "stacked", default=False
)


@contextlib.contextmanager
def giving_examples() -> Iterator[None]:
    """Within the block, updates are given a gradient for each example."""
    token = _stacked.set(True)
    try:
        yield
    finally:
        _stacked.reset(token)


def given_examples() -> bool:
    """Return whether the gradients are those of each example."""
    return _stacked.get()


def extra_arguments(
    value: jax.Array,
    gradients: Any,
    value_fn: Callable[[Any], Any],
) -> dict[str, Any]:
    """Return every argument that a transformation may ask for, by name.

    Args:
        value: The loss.
        gradients: Tree of its gradients.
        value_fn: Function from a tree of parameters to the loss.
    """

    # Optax's line searches refuse arguments that `value_fn` does not name.
    # This one names, and ignores, those of other transformations.
    def tolerant_value_fn(params, *, obj_fn=None, grad_fn=None):
        del obj_fn, grad_fn
        return value_fn(params)

    return {
        "value": value,
        "grad": gradients,
        "value_fn": tolerant_value_fn,
        "obj_fn": value_fn,
        "grad_fn": lambda params, step=None: jax.grad(value_fn)(params),
    }
