"""Variables that a trace makes and no layer keeps: who made them, and where."""

import sys
from collections.abc import Callable

from keras_jax_ext import _keras
from keras_jax_ext._inline.arguments import DeclarationError
from keras_jax_ext._inline.frame import user_line

import keras


def check_kept(
    owner: keras.Layer, kept: set[int], trace: Callable[[], None]
) -> None:
    """Refuse variables that were made in a trace and that no layer keeps.

    A stock layer that is constructed in `call` makes its weights anew at each
    trace, so that nothing would ever train them.

    Args:
        owner: The layer whose `call` was traced.
        kept: Ids of the variables that a layer keeps, and of those that waited
            for values before the trace.
        trace: Function that runs the trace once more.

    Raises:
        DeclarationError: If there are such variables.
    """
    orphans = [v for v in _keras.uninitialized_variables() if id(v) not in kept]
    if not orphans:
        return
    if _is_profiled():
        raise _unknown_error(owner, orphans[0])
    for made, line in _constructed_in(trace):
        lost = {id(v) for v in getattr(made, "variables", [made])} - kept
        if lost:
            raise _lost_error(owner, made, line)


def _is_profiled():
    """Whether a profiler runs that we could not start again.

    Up to Python 3.11, `sys.setprofile` cannot restore cProfile.
    """
    profiler = sys.getprofile()
    return profiler is not None and not callable(profiler)


def _unknown_error(owner, variable):
    return DeclarationError(
        "A variable made in `call` is made anew at each trace, so nothing "
        f"keeps it and it never learns. Received: {variable.path!r} in the "
        f"`call` of {type(owner).__name__}, at a line that cannot be found "
        "while a profiler runs. Declare its layer with `from keras_jax_ext "
        "import layers`, or make it in `__init__`."
    )


def _constructed_in(trace):
    """The layers, variables and metrics that a trace makes, with the lines."""
    codes = {
        cls.__init__.__code__
        for cls in (keras.Layer, keras.Variable, keras.metrics.Metric)
    }
    found = []

    def watch(frame, event, arg):
        if event == "call" and frame.f_code in codes:
            found.append((frame.f_locals["self"], user_line()))

    previous = sys.getprofile()
    sys.setprofile(watch)
    try:
        trace()
    finally:
        sys.setprofile(previous)
    return found


def _lost_error(owner, made, line):
    cls = type(made)
    if isinstance(made, keras.Variable):
        what, fix = "variable", "Make it with `self.add_weight(name=...)`."
    elif isinstance(made, keras.Layer):
        namespace = getattr(keras.layers, cls.__name__, None) is cls
        inline = (
            f"layers.{cls.__name__}, with `from keras_jax_ext import layers`"
            if namespace
            else f"keras_jax_ext.inline({cls.__name__})"
        )
        what, fix = "stock layer", f"Use {inline}, or make it in `__init__`."
    else:
        what, fix = "metric", "Make it in `__init__`."
    return DeclarationError(
        f"A {what} made in `call` is made anew at each trace, so nothing "
        f"keeps it and it never learns. Received: {cls.__name__} "
        f"{made.name!r} in the `call` of {type(owner).__name__}, at {line}. "
        f"{fix}"
    )
