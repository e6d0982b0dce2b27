"""The programs of validation, compiled while that of training is."""

from collections.abc import Callable
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._loop.execution import Executor
from keras_jax_ext._loop.fallback import fuses
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import TEST, TRAIN, state_variables
from keras_jax_ext._loop.parts import is_shared
from keras_jax_ext._loop.source import Source
from keras_jax_ext._loop.validation import Validation
from keras_jax_ext._loop.watching import CallbackList, keeps_steps
from keras_jax_ext._xla.equations import holds


def ahead(
    model: Any,
    source: Source,
    validates: Validation,
    callbacks: Any,
    epoch: int,
) -> Callable[[], None] | None:
    """A function that begins to compile the programs of validation.

    Validation traces the steps as the model is then. So the function does
    nothing where code of the user runs between now and then which could change
    what they do.

    Args:
        model: A built model.
        source: `Source` of the training data.
        validates: `Validation`.
        callbacks: The list of callbacks.
        epoch: Integer, the first epoch.

    Returns:
        Function, to be called before the first step; `None` if no validation
        follows the epoch.
    """
    if is_shared() or not validates.follows(model, epoch):
        return None

    def begin():
        # Callbacks may have been given hooks when the epoch began.
        if (
            source.is_of_arrays
            and validates.is_of_arrays
            and _is_ours(model)
            and _keep_steps(callbacks)
        ):
            # What fails here fails again in `evaluate`, which raises it.
            try:
                _begin(model, validates, callbacks)
            except Exception:
                _keras.forget_losses(model)

    return begin


def _keep_steps(callbacks):
    return type(callbacks) is CallbackList and all(
        map(keeps_steps, callbacks.callbacks)
    )


def _is_ours(model):
    """Whether validation is by our `evaluate`, with the data of `fit`."""
    module = type(model).evaluate.__module__
    return module.startswith("keras_jax_ext.") and "evaluate" not in vars(model)


def _begin(model, validates, callbacks):
    known = memo(model)
    if known.programs.get(TEST) or not fuses(model, TEST, verbose=0):
        return
    model.make_test_function()
    executor = Executor(model, TEST, callbacks)
    spans = validates.source(model).kinds()
    traced = [executor.trace(span) for span in spans]
    arrays = [v.value for g in state_variables(model, TRAIN) for v in g]
    if any(holds(each.jaxpr, arrays) for each in traced):
        # The first step will change it: validation traces the step anew.
        del known.programs[TEST]
        return
    for each in traced:
        executor.program.begin(each)
