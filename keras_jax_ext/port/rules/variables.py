"""`v[0, 0].assign(x)`: variables have no views."""

import re

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules.calling import values_of
from keras_jax_ext.port.script import Script

import libcst as cst

_HOW = {"assign": "set", "assign_add": "add", "assign_sub": "add"}


def assign(
    script: Script, node: cst.Call, updated: cst.Call
) -> cst.BaseExpression:
    """An assignment to a part of a variable is one to the whole."""
    func, old = updated.func, node.func
    assert isinstance(func, cst.Attribute)
    assert isinstance(old, cst.Attribute)
    part = func.value
    if not isinstance(part, cst.Subscript):
        return updated
    assert isinstance(old.value, cst.Subscript)
    kind = _kind(script, old.value)
    if kind == "variables":
        return updated
    if kind is None:
        script.todo(
            node,
            f"`{script.code(part.value)}` may be a variable, or a list of some",
            "write `v.assign(keras.ops.slice_update(v, ...))` for a variable",
        )
        return updated
    method = func.attr.value
    value = script.code(updated.args[0].value)
    value = f"-({value})" if method == "assign_sub" else value
    owner = script.code(part.value)
    place = script.code(part)[len(owner) :]
    script.done(node, "`assign` of the whole")
    return cst.parse_expression(
        f"{owner}.assign({owner}.value.at{place}.{_HOW[method]}({value}))"
    )


# What holds variables.
_HOLDERS = (cst.List, cst.Tuple, cst.Dict, cst.ListComp, cst.DictComp)
_NAMED = re.compile(r"(variables|weights|params|vars)(\(\))?$")
_MAKERS = ("tensorflow.Variable", "keras.backend.variable")


def _kind(script: Script, part: cst.Subscript) -> str | None:
    """Whether a subscript is of a variable, of several, or `None`."""
    owner = part.value
    text = script.code(part.slice[0])
    if isinstance(owner, cst.Subscript) or text[0] in "\"'":
        return "variables"
    if ":" in text or len(part.slice) > 1:
        return "variable"
    values = values_of(script, owner)
    if any(_makes_one(script, each) for each in values):
        return "variable"
    if any(isinstance(v, _HOLDERS) for v in values) or any(
        _NAMED.search(script.code(each)) for each in [owner, *values]
    ):
        return "variables"
    return None


def _makes_one(script: Script, value: cst.BaseExpression) -> bool:
    if not isinstance(value, cst.Call):
        return False
    name = dotted(value.func) and script.names.quiet(value.func)
    return name in _MAKERS or script.code(value.func).endswith("add_weight")
