"""Rewrites a step so that XLA's CPU compiler makes it fast."""

import operator
from collections.abc import Callable
from typing import Any

from keras_jax_ext._xla import siblings
from keras_jax_ext._xla.convolutions import channels_last
from keras_jax_ext._xla.products import narrow_first
from keras_jax_ext._xla.small_images import by_products

import jax

# Rewrite rules by primitive name. A rule takes an equation and returns an
# equivalent, faster function of its operands, or `None` to leave it to the
# next.
_RULES: dict[str, list[Callable[[Any], Callable[..., Any] | None]]] = {
    "conv_general_dilated": [by_products, channels_last],
    "dot_general": [narrow_first],
}


def rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """Replace equations that XLA's CPU compiler is slow at.

    Args:
        function: Function of structures of arrays, to be traced.

    Returns:
        A function of the same arguments and, but for rounding, values.
    """

    def run(*args):
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        changed = _rewrite(closed)
        if changed is closed:
            return function(*args)
        # `import jax` does not import it, and most models do not need it.
        from jax.extend import core

        values = core.jaxpr_as_fun(changed)(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return run


def _rewrite(value):
    """A parameter of an equation with the rules applied, or itself."""
    if type(value) in (tuple, list) and any(map(_is_closed, value)):
        items = [_rewrite(item) for item in value]
        return value if _same(items, value) else type(value)(items)
    if not _is_closed(value):
        return value
    merged = siblings.merged(value.jaxpr, _called)
    equations = [_rewrite_equation(each) for each in merged]
    if _same(equations, value.jaxpr.eqns):
        return value
    return value.replace(jaxpr=value.jaxpr.replace(eqns=equations))


def _is_closed(value):
    """Whether a value is a jaxpr with its constants."""
    return hasattr(value, "jaxpr") and hasattr(value, "consts")


def _rewrite_equation(equation):
    rules = _RULES.get(equation.primitive.name, [])
    function = next(filter(None, (rule(equation) for rule in rules)), None)
    if function:
        call = _called(function, equation.invars)
        return call.replace(outvars=equation.outvars)
    params = {k: _rewrite(v) for k, v in equation.params.items()}
    if _same(params.values(), equation.params.values()):
        return equation
    return equation.replace(params=params)


def _called(function, variables):
    """The equation that calls a function of some variables."""
    shapes = [v.aval for v in variables]
    (call,) = jax.make_jaxpr(jax.jit(function))(*shapes).jaxpr.eqns
    return call.replace(invars=list(variables))


def _same(items, others):
    return len(items) == len(others) and all(map(operator.is_, items, others))
