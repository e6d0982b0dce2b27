"""`v[0, 0].assign(x)`: variables have no views."""

from keras_jax_ext.port.script import Script

import libcst as cst

_HOW = {"assign": "set", "assign_add": "add", "assign_sub": "add"}


def assign(
    script: Script, node: cst.Call, updated: cst.Call
) -> cst.BaseExpression:
    """An assignment to a part of a variable is one to the whole."""
    func = updated.func
    assert isinstance(func, cst.Attribute)
    part = func.value
    if not isinstance(part, cst.Subscript):
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
