"""What shows, from within a function, that JAX traces it. JAX only."""

import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import jax

# These trace their body again when the types of the carry change.
_LOOPS = {
    inspect.unwrap(loop).__code__ for loop in (jax.lax.scan, jax.lax.while_loop)
}


def is_symbolic(value: Any) -> bool:
    """Whether JAX knows only the shape of a value, or only its name."""
    return isinstance(value, jax.core.Tracer) or jax.export.is_symbolic_dim(
        value
    )


def is_known_with(value: Any, other: Any) -> bool:
    """Whether code that has one value may use another.

    JAX gives each function that it transforms a trace of its own, within that
    of its caller: a value of an inner function is none for the caller.

    Args:
        value: Array or tracer.
        other: Array or tracer that the code has.
    """
    wanted = getattr(value, "_trace", None)
    trace = getattr(other, "_trace", None)
    while trace is not None and trace is not wanted:
        trace = getattr(trace, "parent_trace", None)
    return trace is wanted


def running_loops(
    outermost: CodeType,
) -> Iterator[tuple[FrameType, FrameType | None]]:
    """The JAX loops that are running, innermost first.

    Args:
        outermost: Code of a function; loops outside its innermost call do
            not count.

    Yields:
        The Python frame of a loop and the frame that it has called. The loop
        traces its body again if the second is a new frame, the first not.
    """
    inner: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not outermost:
        if frame.f_code in _LOOPS:
            yield frame, inner
        inner, frame = frame, frame.f_back
