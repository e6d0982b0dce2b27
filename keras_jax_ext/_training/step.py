"""The step that is being traced, for what Keras calls without telling it.

Keras calls the compiled loss with `(y, y_pred, sample_weight)` alone. Losses of
ours may ask for the inputs, the mode and the parameters too, which the step
around that call knows.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A step of a model, or a call that only builds its losses.

    Attributes:
        training: Boolean, the mode.
        x: Inputs of the batch, once they are known.
        parameters: Arrays of the trainable variables.
        states: Arrays of the other variables.
        reports: List that receives `(layer, name, value)` of each value that
            a layer reports; `None` outside of a step, while losses are built.
        rng: Key of `jax.random`, for the loss of an update.
        masks: List that receives the masks of the outputs that the loss is
            given; `None` outside of a step.
    """

    training: bool = False
    x: Any = None
    parameters: Sequence[Any] = ()
    states: Sequence[Any] = ()
    reports: list[tuple[Any, str, Any]] | None = None
    rng: Any = None
    masks: list[Any] | None = None

    @property
    def is_building(self) -> bool:
        """Whether Keras builds, with `training=False` whatever comes after."""
        return self.reports is None


# Pairs of an owner and its step. A step of one model may run one of another.
_running: contextvars.ContextVar[tuple[tuple[Any, Step], ...]] = (
    contextvars.ContextVar("keras_jax_ext_steps", default=())
)


@contextlib.contextmanager
def running(owner: Any, step: Step) -> Iterator[None]:
    """Within the block, `current(owner)` is `step`.

    Args:
        owner: The object whose step it is.
        step: `Step`.
    """
    token = _running.set((*_running.get(), (owner, step)))
    try:
        yield
    finally:
        _running.reset(token)


def current(owner: Any) -> Step | None:
    """The innermost running step of an owner; `None` if none is running.

    Args:
        owner: The object whose step it is.
    """
    steps = (step for known, step in reversed(_running.get()) if known is owner)
    return next(steps, None)
