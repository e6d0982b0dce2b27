"""`lr` of optimizers and logs, which is `learning_rate` in Keras 3."""

import re
from typing import Any

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules import written
from keras_jax_ext.port.script import Script

import libcst as cst

# Names of optimizers, as scripts give them.
_LIKE_ONE = re.compile(
    r"(?i)(^|[._])(\w*optimi[sz]ers?|opt|optim|adam|sgd|rmsprop|nadam|adagrad)"
    r"\d*(\[.*\])?$"
)
_LOGS = re.compile(r"(\.history|\blogs)$")
_READS = ("get", "setdefault")
_ASKS = ("hasattr", "getattr", "setattr")


def attribute(
    script: Script, node: cst.Attribute, updated: cst.Attribute
) -> cst.Attribute:
    """`optimizer.lr` as `optimizer.learning_rate`."""
    if node.attr.value != "lr" or not is_optimizer(script, node.value):
        return updated
    script.done(node, "`learning_rate`")
    return updated.with_changes(attr=cst.Name("learning_rate"))


def asked(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """`hasattr(optimizer, "lr")`, `logs.get("lr")` and their like."""
    place = _place(script, node)
    if place is None or place >= len(node.args):
        return updated
    text: Any = updated.args[place].value
    if not isinstance(text, cst.SimpleString) or text.raw_value != "lr":
        return updated
    script.done(node, "`learning_rate`")
    text = text.with_changes(value=f"{text.quote}learning_rate{text.quote}")
    args = list(updated.args)
    args[place] = args[place].with_changes(value=text)
    return updated.with_changes(args=args)


def _place(script: Script, node: cst.Call) -> int | None:
    """Which argument may be the name of a rate."""
    func = node.func
    if isinstance(func, cst.Attribute) and func.attr.value in _READS:
        return 0 if _LOGS.search(script.code(func.value)) else None
    if not isinstance(func, cst.Name) or func.value not in _ASKS:
        return None
    return 1 if is_optimizer(script, node.args[0].value) else None


def entry(
    script: Script, node: cst.Subscript, updated: cst.Subscript
) -> cst.BaseExpression:
    """`history.history["lr"]` and `logs["lr"]`."""
    if script.code(node.slice[0]) not in ('"lr"', "'lr'"):
        return updated
    if not _LOGS.search(script.code(node.value)):
        written.check_column(script, node)
        return updated
    script.done(node, "`learning_rate`")
    return cst.parse_expression(
        f'{script.code(updated.value)}["learning_rate"]'
    )


def is_optimizer(script: Script, node: cst.BaseExpression) -> bool:
    """Whether an object is an optimizer, by its value or by its name."""
    if isinstance(node, cst.Name):
        for each in script.names.assignments(node):
            value = script.names.value(each)
            func = value.func if isinstance(value, cst.Call) else None
            name = func and dotted(func) and script.names.quiet(func)
            if (name or "").startswith("keras.optimizers."):
                return True
    return bool(_LIKE_ONE.search(script.code(node)))
