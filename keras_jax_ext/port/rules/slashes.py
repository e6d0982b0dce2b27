"""Names of layers and weights, which hold no `/` in Keras 3."""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.kinds import base_kind
from keras_jax_ext.port.script import Script

import libcst as cst

_NAMED = ("keras.layers.", "keras.models.", "keras.Model", "keras.Sequential")
_INPUTS = ("keras.Input",)
_SCOPES = ("tensorflow.name_scope", "keras.backend.name_scope")
_WEIGHTS = ("add_weight", "add_variable")
_METHODS = ("__init__", *_WEIGHTS)
_HANDED_ON = "name=name"


def rewrite(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A call that names a layer, or asks for one by its name."""
    args = [
        arg.with_changes(value=_without(arg.value))
        if _is_name(script, node, old)
        else arg
        for old, arg in zip(node.args, updated.args, strict=True)
    ]
    if all(a.value is b.value for a, b in zip(args, updated.args, strict=True)):
        return updated
    script.done(node, "`/` in a name is `_`")
    return updated.with_changes(args=args)


def _is_name(script: Script, node: cst.Call, arg: cst.Arg) -> bool:
    key = arg.keyword.value if arg.keyword else ""
    func = node.func
    method = func.attr.value if isinstance(func, cst.Attribute) else ""
    name = script.names.quiet(node.func) if dotted(node.func) else None
    first = not key and node.args[0] is arg
    if method == "get_layer" or name in _SCOPES:
        return first or key == "name"
    if first and method in _WEIGHTS:
        return isinstance(arg.value, cst.BaseString)
    if key != "name":
        return False
    if name is not None:
        return name.startswith(_NAMED) or name in _INPUTS
    return method in _METHODS or _hands_on(script, node.func)


def _hands_on(script: Script, func: cst.BaseExpression) -> bool:
    """Whether a class or a function of the script names a layer so."""
    if not isinstance(func, cst.Name):
        return False
    made = [made_by(each) for each in script.names.assignments(func)]
    return any(
        (isinstance(each, cst.ClassDef) and base_kind(script, each))
        or (
            isinstance(each, cst.FunctionDef)
            and _HANDED_ON in script.code(each)
        )
        for each in made
    )


class _Texts(cst.CSTTransformer):
    def leave_SimpleString(self, original: Any, updated: Any) -> Any:
        return updated.with_changes(value=updated.value.replace("/", "_"))

    def leave_FormattedStringText(self, original: Any, updated: Any) -> Any:
        return updated.with_changes(value=updated.value.replace("/", "_"))


def _without(value: cst.BaseExpression) -> Any:
    code = cst.Module([]).code_for_node(value)
    if "/" not in code or not any(q in code for q in "\"'"):
        return value
    changed: Any = value.visit(_Texts())
    same = cst.Module([]).code_for_node(changed) == code
    return value if same else changed
