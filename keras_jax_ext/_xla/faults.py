"""Whether a compiled program can fail when it has begun."""

from typing import Any

from keras_jax_ext._xla.equations import jaxprs

import jax


def calls_python(jaxpr: Any) -> bool:
    """Whether a program calls back into Python, and so can fail midway.

    Args:
        jaxpr: The program, as JAX traced it.
    """
    return any(
        "callback" in equation.primitive.name
        for each in jaxprs(jaxpr)
        for equation in getattr(each, "jaxpr", each).eqns
    )


def checks_values() -> bool:
    """Whether JAX raises for a NaN or an infinity when a program ends."""
    config: Any = jax.config
    return config.jax_debug_nans or config.jax_debug_infs


def disables_jit() -> bool:
    """Whether JAX runs every step in Python, for a debugger."""
    config: Any = jax.config
    return config.jax_disable_jit


LOST = (
    "The variables were given to the device, which failed while it wrote over "
    "them: the model has no weights now. Load a checkpoint."
)


def is_lost(state: Any, *, wait: bool) -> bool:
    """Whether arrays were donated, or come from a program that failed.

    Args:
        state: Structure of arrays.
        wait: Boolean, whether to wait for the programs that make them.
    """
    arrays = [a for a in jax.tree.leaves(state) if isinstance(a, jax.Array)]
    if any(array.is_deleted() for array in arrays):
        return True
    try:
        jax.block_until_ready(arrays if wait else [])
    except Exception:  # of the device
        return True
    return False


def note_lost(error: BaseException) -> None:
    """Add to an error, once, that the model has no weights now.

    Args:
        error: The exception that is being raised.
    """
    if LOST not in getattr(error, "__notes__", ()):
        error.add_note(LOST)
