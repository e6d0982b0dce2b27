"""Calls of `compile`: its arguments, and functions of the script in them."""

import re

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.kinds import class_of, may_be_model
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.arguments import METHODS

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
_HELPERS = {"metrics": "metrics", "weighted_metrics": "metrics"}
_HELPERS["loss"] = "losses"
# What it takes by name alone, here and in Keras 3.
_FURTHER = ("jit_compile", "auto_scale_loss", "updates")


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, several: bool
) -> cst.Call:
    """A call of `compile` as Keras 3 takes it; others as they are.

    Args:
        script: The script.
        node: The call.
        updated: The call as it was rewritten so far.
        several: Whether the model may have several outputs.
    """
    func = node.func
    if (
        not isinstance(func, cst.Attribute)
        or func.attr.value != "compile"
        or script.code(func.value) in ("re", "regex")
        or any(a.star == "*" for a in node.args)
        or _is_own(script, func.value)
    ):
        return updated
    for arg in node.args:
        key = arg.keyword.value if arg.keyword else _ORDER[0]
        if key not in (*_ORDER, *_FURTHER) and key not in METHODS["compile"]:
            script.todo(
                arg,
                f"`compile` has no argument `{key}=`",
                "leave it out, or write what it did",
            )
    args = []
    for place, (old, new) in enumerate(
        zip(node.args, updated.args, strict=True)
    ):
        if old.keyword is None and not old.star and 2 <= place < len(_ORDER):
            script.done(node, f"`{_ORDER[place]}=` goes by name")
            new = keyword(_ORDER[place], new.value, new)
        name = new.keyword.value if new.keyword else ""
        if name == "loss" or _is_second(old, place):
            new = _loss(script, new)
        helper = _HELPERS.get("loss" if _is_second(old, place) else name)
        spread = several and helper == "metrics" and _is_flat(old.value)
        named = helper == "metrics" and _is_named_anew(script, old.value)
        if helper and (spread or named or _has_own(script, old.value)):
            target = script.target(f"keras_jax_ext.keras2.{helper}")
            said = "all for each output" if spread else "labels of their rank"
            said = "by the names of Keras 2" if named and not spread else said
            script.done(old.value, f"`{target}`: {said}")
            call = cst.Call(
                cst.parse_expression(target),
                _helped(script, func.value, new.value, spread),
            )
            new = new.with_changes(value=call)
        args.append(new)
    if all(a is b for a, b in zip(args, updated.args, strict=True)):
        return updated
    return updated.with_changes(args=tidy(args))


def _loss(script, arg):
    """A loss by the name that it has in Keras 3."""
    if script.code(arg.value).strip("\"'") != "huber_loss":
        return arg
    if not isinstance(arg.value, cst.SimpleString):
        return arg
    script.done(arg.value, "`huber`")
    return arg.with_changes(value=cst.SimpleString('"huber"'))


def _is_own(script: Script, owner: cst.BaseExpression) -> bool:
    """Whether it may be a `compile` that the script defines."""
    if not re.search(r"\bdef compile\(", script.text):
        return False
    if script.code(owner).startswith("super("):
        return False
    if not isinstance(owner, cst.Name):
        return True
    found = class_of(script, owner)
    if found is not None:
        return any(
            isinstance(each, cst.FunctionDef) and each.name.value == "compile"
            for each in found.body.body
        )
    return not may_be_model(script, owner, by_name=False)


def _helped(script, owner, value, spread) -> list[cst.Arg]:
    """The arguments of the helper: the metrics, and their model."""
    text = script.code(owner)
    model = "self" if text.startswith("super(") else text
    further = [cst.Arg(cst.parse_expression(model))] if spread else []
    return tidy([cst.Arg(value), *further])


def _is_flat(node: cst.BaseExpression) -> bool:
    """Whether it may be a list for every output."""
    if isinstance(node, cst.List):
        nested = (cst.List, cst.Tuple, cst.Dict)
        values = [each.value for each in node.elements]
        return bool(values) and not any(isinstance(v, nested) for v in values)
    return isinstance(node, (cst.Name, cst.Attribute, cst.SimpleString))


def _is_named_anew(script: Script, node: cst.BaseExpression) -> bool:
    """Whether it is one metric, not in a list, or names a class."""
    if isinstance(node, (cst.List, cst.Tuple)):
        return any(_is_class(each.value) for each in node.elements)
    if isinstance(node, cst.Dict):
        values = [e.value for e in node.elements]
        lists = [v for v in values if isinstance(v, (cst.List, cst.Tuple))]
        return any(_is_class(each) for each in values) or any(
            _is_named_anew(script, each) for each in lists
        )
    if isinstance(node, cst.Name) and not script.names.quiet(node):
        made = script.names.assignments(node)
        return any(
            value is not None
            and not isinstance(value, cst.Name)
            and _is_named_anew(script, value)
            for value in map(script.names.value, made)
        )
    name = node.func if isinstance(node, cst.Call) else node
    known = dotted(name) and script.names.quiet(name)
    return isinstance(node, cst.SimpleString) or (known or "").startswith(
        ("keras.metrics.", "keras.losses.")
    )


def _is_class(node: cst.BaseExpression | None) -> bool:
    """Whether it is the name of a class of metrics, as "AUC"."""
    text = isinstance(node, cst.SimpleString) and node.raw_value
    return bool(text) and bool(re.fullmatch(r"AUC|[A-Z][a-z]\w+", str(text)))


def _is_second(arg: cst.Arg, place: int) -> bool:
    return place == 1 and arg.keyword is None and not arg.star


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
