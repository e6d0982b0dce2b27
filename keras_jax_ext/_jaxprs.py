"""What a traced program does."""

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
