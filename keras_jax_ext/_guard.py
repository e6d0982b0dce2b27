"""A model's variables keep their last good values when a step fails."""

import contextlib
import functools
import itertools
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._faults import LOST, calls_python, checks_values
from keras_jax_ext._turns import BusyError

import jax
import keras


class Guarded(_keras.Mixin):
    """Mixin: what fails in Keras's loops leaves the variables as they were.

    Keras takes the values out of the variables before a step and gives their
    buffers away; stock models end with every variable `None` or deleted.
    """

    train_function: Any
    test_function: Any
    predict_function: Any

    def make_train_function(self, force=False):
        """As Keras's.

        Args:
            force: Boolean, whether to make it anew.
        """
        made = self.train_function
        super().make_train_function(force=force)
        if self.train_function is not made:
            self.train_function = guarded(self, self.train_function, "train")

    def make_test_function(self, force=False):
        """As Keras's.

        Args:
            force: Boolean, whether to make it anew.
        """
        made = self.test_function
        super().make_test_function(force=force)
        if self.test_function is not made:
            self.test_function = guarded(self, self.test_function, "test")

    def make_predict_function(self, force=False):
        """As Keras's.

        Args:
            force: Boolean, whether to make it anew.
        """
        made = self.predict_function
        super().make_predict_function(force=force)
        if self.predict_function is not made:
            self.predict_function = guarded(
                self, self.predict_function, "predict"
            )

    def evaluate(self, *args, **kwargs):
        with _synced(self):
            return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        with _synced(self):
            return super().predict(*args, **kwargs)


@contextlib.contextmanager
def _synced(model):
    """Put the state of the last step back if a callback raises."""
    try:
        yield
    except BusyError:  # another thread has the state
        raise
    except BaseException:
        model.jax_state_sync()
        raise


def guarded(model, function, kind):
    """Wrap a step function so that a failing step keeps the variables.

    One call is one step, also where it holds several (`steps_per_execution`).

    Args:
        model: The model that `function` steps.
        function: `f(state, iterator) -> (outputs, state)`.
        kind: String, `"train"`, `"test"` or `"predict"`: whose state it is.

    Returns:
        A function of the same arguments.
    """
    compiled = _keras.compiled_step(function)
    several = model.steps_per_execution > 1
    # Of several steps each is copied and awaited, whatever they call. Flax's
    # jit, which Keras uses in NNX mode, does not show what it traced.
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
                # The step itself finds this trace again.
                jaxpr = compiled.trace(state, data).jaxpr
                calls_back = calls_python(jaxpr.jaxpr)
            if several or calls_back or checks_values():
                # These may fail when the buffers are already given away.
                kept = _copy(state)
            result = function(state, iterator)
            if several or calls_back:
                jax.block_until_ready(result)
            return result
        except StopIteration:
            raise
        except BaseException as error:
            if not _keras.restore_state(model, kept, kind):
                error.add_note(LOST)
            raise

    return step


@jax.jit
def _copy(state):
    return jax.tree.map(jax.numpy.copy, state)
