"""What `fit` and its like are given: lists of numbers, weighed generators."""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.arguments import value_of
from keras_jax_ext.port.rules.calling import values_of
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst

_METHODS = (
    "fit",
    "predict",
    "evaluate",
    "predict_classes",
    "predict_proba",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
)
_KEYS = ("x", "y")


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, method: str
) -> cst.Call:
    """A call of such a method with data that Keras 3 takes."""
    if method in _METHODS:
        updated = _of_arrays(script, node, updated)
    if method in ("fit", "fit_generator"):
        updated = _weighed(script, node, updated, method)
    return updated


def _of_arrays(script, node, updated):
    """A list of numbers was taken for an array."""
    args = list(updated.args)
    for place, (old, new) in enumerate(zip(node.args, args, strict=True)):
        key = old.keyword.value if old.keyword else _key(place)
        if old.star or key not in _KEYS:
            continue
        values = _values(script, old.value)
        helper = ""
        if any(map(_may_be_list, values)):
            helper = "keras_jax_ext.keras2.as_array"
        elif len(values) == 1 and _is_list_of_numbers(values[0]):
            helper = "keras.ops.convert_to_tensor"
        if helper:
            func = cst.parse_expression(script.target(helper))
            call = cst.Call(func, [cst.Arg(new.value)])
            args[place] = new.with_changes(value=call)
            script.done(node, "an array of the list")
    return updated.with_changes(args=args)


def _key(place: int) -> str:
    return _KEYS[place] if place < len(_KEYS) else ""


def _values(script: Script, node: cst.BaseExpression) -> list[Any]:
    """The values that a name may stand for, or the expression itself."""
    return values_of(script, node) if isinstance(node, cst.Name) else [node]


def _may_be_list(value: Any) -> bool:
    """Whether it is a list whose entries are not seen."""
    if isinstance(value, cst.ListComp):
        return True
    if isinstance(value, cst.List):
        return not value.elements
    return isinstance(value, cst.Call) and (
        dotted(value.func) == "list"
        or (
            isinstance(value.func, cst.Attribute)
            and value.func.attr.value == "tolist"
        )
    )


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, cst.List) and _is_of_numbers(value)


def _is_of_numbers(value: Any) -> bool:
    if isinstance(value, cst.UnaryOperation):
        value = value.expression
    if isinstance(value, (cst.Integer, cst.Float)):
        return True
    return (
        isinstance(value, cst.List)
        and bool(value.elements)
        and all(_is_of_numbers(e.value) for e in value.elements)
    )


def _weighed(script, node, updated, method):
    """`class_weight=` of a generator is weights in its batches."""
    weights = value_of(list(updated.args), "class_weight")
    if weights is None or script.code(weights) == "None":
        return updated
    if method == "fit" and not _is_generator(script, node):
        return updated
    helper = cst.parse_expression(
        script.target("keras_jax_ext.keras2.weighted")
    )
    args = []
    for place, arg in enumerate(updated.args):
        key = arg.keyword.value if arg.keyword else ""
        if key in ("x", "generator") or (place == 0 and not key):
            call = f"f({script.code(arg.value)}, {script.code(weights)})"
            value = cst.ensure_type(cst.parse_expression(call), cst.Call)
            arg = arg.with_changes(value=value.with_changes(func=helper))
        if key != "class_weight":
            args.append(arg)
    script.done(node, "`class_weight=` of a generator: weights in its batches")
    return updated.with_changes(args=tidy(args))


def _is_generator(script: Script, node: cst.Call) -> bool:
    """Whether the data come from a function of the script that yields."""
    args = list(node.args)
    first = args[0].value if args and args[0].keyword is None else None
    data = first or value_of(args, "x")
    for value in _values(script, data) if data is not None else []:
        func = value.func if isinstance(value, cst.Call) else None
        if isinstance(func, cst.Name):
            made = map(made_by, script.names.assignments(func))
            if any(
                isinstance(each, cst.FunctionDef)
                and "yield" in script.code(each)
                for each in made
            ):
                return True
    return False
