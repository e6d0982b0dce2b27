"""Strings that name another loss, metric or activation in Keras 3."""

from typing import Any

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.script import Script

import libcst as cst

# They are names in the logs, too: every one of a script is written anew.
_RENAMED = {
    "cosine_proximity": "cosine_similarity",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
}
# An activation of another formula under the same name.
_CHANGED = "hard_sigmoid"
HELPER = "keras_jax_ext.keras2.hard_sigmoid"
# Where a function may stand for its name.
_PLACES = (cst.Assign, cst.AnnAssign, cst.Param, cst.Element, cst.DictElement)


def rewrite(
    script: Script, node: cst.SimpleString, updated: Any
) -> cst.BaseExpression:
    """A string as it is written now."""
    text = node.raw_value
    if not script.of_tensorflow or "b" in node.prefix:
        return updated
    if text == _CHANGED:
        return _activation(script, node, updated)
    if text == "l1_l2" and _is_regularizer(script, node):
        # Keras 3 has no such name; 0.01 is what Keras 2 had for both.
        script.done(node, "`keras.regularizers.L1L2`")
        target = script.target("keras.regularizers.L1L2")
        return cst.parse_expression(f"{target}(0.01, 0.01)")
    prefix = "val_" if text.startswith("val_") else ""
    now = _RENAMED.get(text.removeprefix(prefix))
    if now is None:
        return updated
    script.done(node, f"`{prefix}{now}`")
    return updated.with_changes(
        value=f"{node.prefix}{node.quote}{prefix}{now}{node.quote}"
    )


def _is_regularizer(script, node) -> bool:
    arg = script.names.parents.get(node)
    key = arg.keyword if isinstance(arg, cst.Arg) else None
    return key is not None and key.value.endswith("regularizer")


def _activation(script, node, updated):
    parent = script.names.parents.get(node)
    if not _may_be_function(script, node, parent):
        script.todo(
            node,
            "`hard_sigmoid` has another formula in Keras 3",
            "use `kje.keras2.hard_sigmoid`, which is a function",
        )
        return updated
    script.done(node, "`kje.keras2.hard_sigmoid`: the formula of Keras 2")
    return cst.parse_expression(script.target(HELPER))


def _may_be_function(script, node, parent) -> bool:
    if isinstance(parent, cst.Arg):
        call = script.names.parents.get(parent)
        name = dotted(call.func) and script.names.quiet(call.func)
        return (name or "").startswith("keras.")
    if isinstance(parent, cst.DictElement) and parent.value is not node:
        return False
    return isinstance(parent, _PLACES)
