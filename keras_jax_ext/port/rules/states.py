"""Recurrent layers that keep their states between batches."""

import re

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules.arguments import value_of
from keras_jax_ext.port.script import Script

import libcst as cst

HELPER = "keras_jax_ext.keras2.stateful"
# They make layers again, without what the helper gave the first.
_MAKERS = (
    "keras.models.load_model",
    "keras.models.clone_model",
    "keras.models.model_from_json",
)


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.Call:
    """A layer with `stateful=True`, by the helper that keeps its states."""
    made_again = name in _MAKERS and _keeps(script)
    if node in script.restored or not (made_again or _has(script, node)):
        return updated
    outer = _call_around(script, node)
    if outer is not None and _has(script, outer):
        return updated
    script.done(node, f"`{script.target(HELPER)}`: it keeps its states")
    func = cst.parse_expression(script.target(HELPER))
    return cst.Call(func, [cst.Arg(updated)])


def _has(script: Script, node: cst.Call) -> bool:
    """Whether a layer keeps states, or holds one that does."""
    name = dotted(node.func) and script.names.quiet(node.func)
    if not (name or "").startswith("keras.layers."):
        return False
    value = value_of(list(node.args), "stateful")
    if value is not None:
        return script.code(value) != "False"
    inner = [a.value for a in node.args if isinstance(a.value, cst.Call)]
    return any(_has(script, each) for each in inner)


def _call_around(script: Script, node: cst.Call) -> cst.Call | None:
    """The call that a call is an argument of."""
    arg = script.names.parents.get(node)
    if not isinstance(arg, cst.Arg):
        return None
    outer = script.names.parents.get(arg)
    return outer if isinstance(outer, cst.Call) else None


def _keeps(script: Script) -> bool:
    return bool(re.search(r"\bstateful\s*=\s*True", script.text))
