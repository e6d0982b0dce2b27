"""Whether a function is pure: what two of its traces say."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

# Addresses of objects, which two traces of one function do not share.
_ADDRESS = re.compile(r"0x[0-9a-f]+")


def trace(function: Callable[..., Any], shapes: Sequence[Any]) -> Any:
    """Trace a function anew, past JAX's cache of traces.

    Args:
        function: Function of arrays.
        shapes: `jax.ShapeDtypeStruct` of each.

    Returns:
        The jaxpr, closed over its constants.
    """
    # JAX finds an old trace by the function: give it a new one.
    return jax.make_jaxpr(lambda *args: function(*args))(*shapes)


def same(first: Any, second: Any) -> bool:
    """Whether two traces have the same operations and constants.

    Args:
        first: A closed jaxpr.
        second: A closed jaxpr.
    """
    texts = (_ADDRESS.sub("", str(each.jaxpr)) for each in (first, second))
    if len({*texts}) > 1 or len(first.consts) != len(second.consts):
        return False
    return all(
        a is b or np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(first.consts, second.consts, strict=True)
    )


def used_inputs(traced: Any) -> list[bool]:
    """Whether the outputs of a trace depend on each of its inputs.

    Args:
        traced: A closed jaxpr.

    Returns:
        List of booleans. An operation counts as using all of its inputs.
    """
    jaxpr = traced.jaxpr
    needed = {id(v) for v in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if needed & {id(v) for v in equation.outvars}:
            needed |= {id(v) for v in equation.invars}
    return [id(v) in needed for v in jaxpr.invars]
