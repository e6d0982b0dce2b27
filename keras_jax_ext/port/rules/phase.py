"""The mode to train or to predict, which was a value of the backend."""

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules import names
from keras_jax_ext.port.rules.lookup import find
from keras_jax_ext.port.script import Script

import libcst as cst

_HELPERS = "keras_jax_ext.keras2."


def asked(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression:
    """`K.learning_phase()`, which may be an input of `K.function`."""
    if _is_input(script, node):
        script.done(node, "an input of `kje.keras2.function`")
        target = script.target(f"{_HELPERS}learning_phase")
        return updated.with_changes(func=cst.parse_expression(target))
    return _left(script, node, updated, name)


def _is_input(script: Script, node: cst.CSTNode) -> bool:
    element, inputs, arg, call = script.names.up(node)[1:5]
    return (
        isinstance(element, cst.Element)
        and isinstance(inputs, cst.List)
        and isinstance(arg, cst.Arg)
        and isinstance(call, cst.Call)
        and bool(dotted(call.func))
        and script.names.quiet(call.func) == "keras.backend.function"
        and (call.args[0] is arg or script.code(arg).startswith("inputs"))
    )


def chosen(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression:
    """`K.in_train_phase(x, alt, training)`, where the mode is given."""
    keys = [a.keyword.value if a.keyword else "" for a in node.args]
    known = keys in (["", "", "training"], ["", "", ""])
    if not known or any(a.star for a in node.args):
        return _left(script, node, updated, "keras.backend.learning_phase")
    target = _HELPERS + name.rpartition(".")[2]
    script.done(node, f"`{target}`")
    func = names.written(script, node.func, target)
    return updated.with_changes(func=func)


def _left(script, node, updated, name):
    found = find(name)
    names.keep(script, node.func)
    script.todo(node, found.reason, found.recipe)
    return updated
