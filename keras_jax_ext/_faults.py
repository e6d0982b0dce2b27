"""Whether a compiled program can fail when it has begun."""

from typing import Any

import jax


def calls_python(jaxpr):
    """Whether a program calls back into Python, and so can fail midway."""
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name:
            return True
        for value in jax.tree.leaves(equation.params):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and calls_python(inner):
                return True
    return False


def checks_values():
    """Whether JAX raises for a NaN or an infinity, after the program."""
    config: Any = jax.config
    return config.jax_debug_nans or config.jax_debug_infs
