"""The equations of a program, and what it holds."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax


def jaxprs(jaxpr: Any) -> Iterator[Any]:
    """A program and all within it, each once, closed or not.

    Args:
        jaxpr: A jaxpr, with or without its constants.
    """
    seen, left = set(), [jaxpr]
    while left:
        each = left.pop()
        inner = getattr(each, "jaxpr", each)
        if not hasattr(inner, "eqns") or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        for equation in inner.eqns:
            for value in equation.params.values():
                if isinstance(value, (tuple, list, dict)):
                    left.extend(jax.tree.leaves(value))
                else:
                    left.append(value)


def holds(jaxpr: Any, arrays: Sequence[Any]) -> bool:
    """Whether a program has one of some arrays in it, as a constant.

    Args:
        jaxpr: A jaxpr with its constants.
        arrays: Arrays.
    """
    ids = {id(array) for array in arrays}
    return any(id(each) in ids for each in _constants(jaxpr))


def _constants(jaxpr):
    """JAX keeps an array in the equation that reads it, or beside them."""
    for each in jaxprs(jaxpr):
        yield from getattr(each, "consts", ())
        inner = getattr(each, "jaxpr", each)
        for reader in (inner.outvars, *(e.invars for e in inner.eqns)):
            yield from (getattr(v, "val", None) for v in reader)
