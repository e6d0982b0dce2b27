"""What an optimizer needs that updates many variables, or holds others.

Replaced by: a public method of an optimizer that is given every gradient.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import keras
import numpy as np

# The optimizer whose gradients Keras applies now, in this thread.
_applied: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "applied", default=None
)


class UpdatesAtOnce(keras.optimizers.Optimizer):
    """An optimizer whose `update_at_once` gets the gradients of a whole step.

    The public method to override, `update_step`, gets one variable at a time.
    """

    def update_at_once(self, gradients: dict[int, Any]) -> None:
        """Update the variables, given gradients by the id of the variable."""
        raise NotImplementedError

    @property
    def is_applying(self) -> bool:
        """Whether Keras applies gradients now.

        It then reads `learning_rate`, to hand it to an update that ignores it.
        """
        return _applied.get() is self

    @property
    def trained_variables(self) -> list[Any]:
        """The variables that the optimizer was built for."""
        # Private; replaced by: a public list of them.
        return list(self._trainable_variables)

    # The two steps of `apply` that a backend may override. Only the second one
    # gets every gradient, and only after the first one has read the rate.

    def _backend_apply_gradients(self, grads, trainable_variables):
        token = _applied.set(self)
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            _applied.reset(token)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        pairs = zip(trainable_variables, grads, strict=True)
        self.update_at_once({id(variable): grad for variable, grad in pairs})


@contextlib.contextmanager
def made_on_host(optimizer: Any) -> Iterator[None]:
    """Within the block, an optimizer makes its zeros without a compiler.

    JAX compiles a program for the zeros of each shape: for the 42 shapes of a
    MobileNet, a tenth of the time until its first step.

    Args:
        optimizer: An optimizer; others than Keras's are left as they are.
    """
    if (
        not isinstance(optimizer, keras.optimizers.Optimizer)
        or keras.distribution.distribution() is not None
    ):
        yield
        return
    add = optimizer.add_variable

    def add_variable(shape, initializer="zeros", **arguments):
        made = _zeros if initializer == "zeros" else initializer
        return add(shape, made, **arguments)

    optimizer.add_variable = add_variable
    try:
        yield
    finally:
        del optimizer.add_variable


def _zeros(shape, dtype):
    # Not `jax.numpy.asarray`, which compiles a program for each shape, too.
    return jax.device_put(np.zeros(shape, dtype))


class Several(keras.optimizers.MultiOptimizer):
    """A `MultiOptimizer` whose state is written into files once."""

    def __dir__(self) -> list[str]:
        # Keras's saver walks along it, from `variables`, which have all of the
        # state, to the optimizers within; the second name is private. Replaced
        # by: a saver that writes them once.
        hidden = "optimizers", "_inner_optimizers"
        return [name for name in super().__dir__() if name not in hidden]
