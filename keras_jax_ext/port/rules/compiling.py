"""Calls of `compile`: the order of its arguments, and metrics of the script."""

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script

import libcst as cst

# Keras 3 has `loss_weights` third.
_ORDER = (
    "optimizer",
    "loss",
    "metrics",
    "loss_weights",
    "weighted_metrics",
    "run_eagerly",
    "steps_per_execution",
)
_METRICS = ("metrics", "weighted_metrics")
_HELPER = "keras_jax_ext.keras2.metrics"


def rewrite(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A call of `compile` as Keras 3 takes it; others as they are."""
    func = node.func
    if (
        not isinstance(func, cst.Attribute)
        or func.attr.value != "compile"
        or script.code(func.value) in ("re", "regex")
        or any(a.star == "*" for a in node.args)
    ):
        return updated
    args = []
    for place, (old, new) in enumerate(
        zip(node.args, updated.args, strict=True)
    ):
        if old.keyword is None and not old.star and 2 <= place < len(_ORDER):
            script.done(node, f"`{_ORDER[place]}=` goes by name")
            new = keyword(_ORDER[place], new.value, new)
        name = new.keyword.value if new.keyword else None
        if name in _METRICS and _has_own(script, old.value):
            target = cst.parse_expression(script.target(_HELPER))
            script.done(old.value, "`kje.keras2.metrics`: labels of their rank")
            call = cst.Call(target, [cst.Arg(new.value)])
            new = new.with_changes(value=call)
        args.append(new)
    if all(a is b for a, b in zip(args, updated.args, strict=True)):
        return updated
    return updated.with_changes(args=tidy(args))


def _has_own(script: Script, node: cst.BaseExpression) -> bool:
    """Whether metrics may be of the script, not names or Keras's own."""
    if isinstance(node, (cst.List, cst.Tuple)):
        return any(_has_own(script, e.value) for e in node.elements)
    if isinstance(node, cst.Dict):
        return any(
            isinstance(e, cst.StarredDictElement) or _has_own(script, e.value)
            for e in node.elements
        )
    if isinstance(node, cst.BaseString) or script.code(node) == "None":
        return False
    name = node.func if isinstance(node, cst.Call) else node
    if dotted(name) and script.names.quiet(name):
        return False
    if isinstance(node, cst.Name):
        made = list(script.names.assignments(node))
        values = [script.names.value(each) for each in made]
        if made and all(
            v is not None and not isinstance(made_by(m), cst.Param)
            for v, m in zip(values, made, strict=True)
        ):
            # A list of them has a name.
            return any(
                v is node or _has_own(script, v)
                for v in values
                if v is not None
            )
    return True
