"""Rewrites a step so that XLA's CPU compiler makes it fast."""

import functools
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
# next. Functions of the same parameters and shapes compute the same.
_RULES: dict[str, list[Callable[[Any], functools.partial[Any] | None]]] = {
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
        changed = _Rewriting().parameter(closed)
        if changed is closed:
            return function(*args)
        # `import jax` does not import it, and most models do not need it.
        from jax.extend import core

        values = core.jaxpr_as_fun(changed)(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return run


class _Rewriting:
    """The rules applied to a program, to each part of it once.

    Layers of one kind share inner programs, and equal equations one function:
    what is made once is also lowered once.
    """

    def __init__(self) -> None:
        # By identity, with what it is of: an identity may be used again.
        self._parts: dict[int, tuple[Any, Any]] = {}
        self._calls: dict[Any, Any] = {}

    def parameter(self, value):
        """A parameter of an equation with the rules applied, or itself."""
        if type(value) in (tuple, list) and any(map(_is_closed, value)):
            items = [self.parameter(item) for item in value]
            return value if _same(items, value) else type(value)(items)
        if not _is_closed(value):
            return value
        if id(value) not in self._parts:
            self._parts[id(value)] = value, self._program(value)
        return self._parts[id(value)][1]

    def _program(self, closed):
        merged = siblings.merged(closed.jaxpr, _called)
        equations = [self._equation(each) for each in merged]
        if _same(equations, closed.jaxpr.eqns):
            return closed
        return closed.replace(jaxpr=closed.jaxpr.replace(eqns=equations))

    def _equation(self, equation):
        rules = _RULES.get(equation.primitive.name, [])
        function = next(filter(None, (rule(equation) for rule in rules)), None)
        if function:
            call = self._call(function, equation.invars)
            return call.replace(
                invars=equation.invars, outvars=equation.outvars
            )
        params = {k: self.parameter(v) for k, v in equation.params.items()}
        if _same(params.values(), equation.params.values()):
            return equation
        return equation.replace(params=params)

    def _call(self, function, variables):
        """An equation that calls a function of variables like these."""
        shapes = tuple(v.aval for v in variables)
        key = function.func, frozenset(function.keywords.items()), shapes
        if key not in self._calls:
            self._calls[key] = _called(function, variables)
        return self._calls[key]


def _is_closed(value):
    """Whether a value is a jaxpr with its constants."""
    return hasattr(value, "jaxpr") and hasattr(value, "consts")


def _called(function, variables):
    """The equation that calls a function of some variables."""
    shapes = [v.aval for v in variables]
    (call,) = jax.make_jaxpr(jax.jit(function))(*shapes).jaxpr.eqns
    return call.replace(invars=list(variables))


def _same(items, others):
    return len(items) == len(others) and all(map(operator.is_, items, others))
