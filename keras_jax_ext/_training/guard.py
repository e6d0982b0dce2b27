"""A model's variables keep their last good values when a step fails."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.modes import Mode, state_variables
from keras_jax_ext._xla.faults import LOST, calls_python, checks_values

import jax
import keras


@contextlib.contextmanager
def last_good_state(model: Any) -> Iterator[None]:
    """After a failure, give the variables the state of the last good step.

    Keras takes the values out of the variables before a step and gives their
    buffers away; stock models end with every variable `None` or deleted.
    """
    try:
        yield
    except BaseException:
        _keras.release_state(model)
        _keras.forget_losses(model)
        raise


def guarded(
    model: Any, function: Callable[..., Any], mode: Mode
) -> Callable[..., Any]:
    """Wrap a step function so that a failing step keeps the variables.

    One call is one step, also where it holds several (`steps_per_execution`).

    Args:
        model: The model that `function` steps.
        function: `f(state, iterator) -> (outputs, state)`.
        mode: `Mode`, whose state it is.

    Returns:
        A function of the same arguments.
    """
    compiled = _keras.compiled_step(function)
    several = model.steps_per_execution > 1
    # With several steps in a call, always copy and wait. In NNX mode the
    # jitted step is Flax's, which does not expose its jaxpr.
    asks = compiled and not several and not keras.config.is_nnx_enabled()
    calls_back = None if asks else False

    @functools.wraps(function)
    def step(state, iterator):
        nonlocal calls_back
        kept = state
        try:
            if calls_back is None:
                data = next(iterator)
                iterator = itertools.chain([data], iterator)
                # The step below reuses this trace.
                jaxpr = compiled.trace(state, data).jaxpr
                calls_back = calls_python(jaxpr.jaxpr)
            if several or calls_back or checks_values():
                # Such a step may fail after it has taken the buffers.
                kept = _copy(state)
            result = function(state, iterator)
            if several or calls_back:
                jax.block_until_ready(result)
            return result
        except StopIteration:
            raise
        except BaseException as error:
            if not _restore(model, mode, kept):
                error.add_note(LOST)
            raise

    return step


def _restore(model, mode, state):
    """Give the variables their values from before a failed step.

    Returns:
        Boolean, whether all values are still there.
    """
    whole = True
    groups = zip(state_variables(model, mode), state, strict=True)
    for variables, values in groups:
        for variable, value in zip(variables, values, strict=True):
            if getattr(value, "is_deleted", lambda: False)():
                whole = False
            else:
                _keras.write(variable, value)
    _keras.disown_state(model)
    return whole


@jax.jit
def _copy(state):
    return jax.tree.map(jax.numpy.copy, state)
