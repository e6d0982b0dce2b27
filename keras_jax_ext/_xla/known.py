"""Values of arrays that a transformation of JAX looks at."""

from typing import Any

from jax.extend import core


def known(array: Any) -> Any:
    """An array without what JAX notes of it, for gradients.

    Args:
        array: Array, or a tracer of a transformation that runs at once.

    Returns:
        Array.

    Raises:
        TypeError: If the value is not known, in a compiled function.
    """
    return core.concrete_or_error(
        None, array, "`to_numpy` was called in a compiled function."
    )
