"""Variables: they have no views, and some functions take arrays alone."""

import re
from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.calling import values_of
from keras_jax_ext.port.rules.kinds import base_kind
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.operations import OPERATIONS

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


# Functions that fail on a variable of Keras's.
_OF_ARRAYS = {
    "jax.lax.digamma",
    "jax.lax.lgamma",
    "jax.numpy.linalg.pinv",
    "jax.scipy.special.xlogy",
    "keras.ops.count_nonzero",
    "keras.ops.in_top_k",
    "keras.ops.map",
    "keras.ops.moments",
    "keras.ops.ones_like",
    "keras.ops.unstack",
    "keras.ops.vectorized_map",
    "keras.ops.where",
    "keras.ops.zeros_like",
    "keras_jax_ext.keras2.avg_pool2d",
    "keras_jax_ext.keras2.band_part",
    "keras_jax_ext.keras2.conv2d_transpose",
    "keras_jax_ext.keras2.max_pool2d",
    "keras_jax_ext.keras2.multiply_no_nan",
    "keras_jax_ext.keras2.rot90",
    "keras_jax_ext.keras2.segment_mean",
    "keras_jax_ext.keras2.top_k",
}
# Those that fail on a list of numbers, too.
_OF_NO_LISTS = _OF_ARRAYS | {
    "keras.ops.all",
    "keras.ops.any",
    "keras.ops.bincount",
    "keras.ops.diagonal",
    "keras.ops.flip",
    "keras.ops.logsumexp",
    "keras.ops.meshgrid",
    "keras.ops.repeat",
    "keras.ops.roll",
    "keras.ops.segment_sum",
    "keras.ops.shape",
    "keras.ops.softmax",
    "keras.ops.tile",
    "keras_jax_ext.keras2.batch_flatten",
    "keras_jax_ext.keras2.central_crop",
    "keras_jax_ext.keras2.clip_by_norm",
    "keras_jax_ext.keras2.conv1d",
    "keras_jax_ext.keras2.conv2d",
    "keras_jax_ext.keras2.crelu",
    "keras_jax_ext.keras2.ensure_shape",
    "keras_jax_ext.keras2.flip_left_right",
    "keras_jax_ext.keras2.flip_up_down",
    "keras_jax_ext.keras2.l2_normalize",
    "keras_jax_ext.keras2.normalize_and_norm",
    "keras_jax_ext.keras2.pad",
    "keras_jax_ext.keras2.reciprocal_no_nan",
    "keras_jax_ext.keras2.scatter_add",
    "keras_jax_ext.keras2.scatter_sub",
    "keras_jax_ext.keras2.segment_sum",
    "keras_jax_ext.keras2.space_to_depth",
    "keras_jax_ext.keras2.split",
    "keras_jax_ext.keras2.weighted_cross_entropy_with_logits",
}
# Those of them whose second argument is an array, and that take more of them.
# (Sizes and counts are no arrays: a compiled function must know them.)
_OF_TWO = re.compile(r"segment|xlogy|in_top_k|conv")
_OF_MORE = re.compile(r"where|meshgrid|cross_entropy")
_NO_ARRAYS = ("strides", "stride", "output_shape")
_COUNTS = "keras.ops.repeat"
_CONSTRUCTORS = "Variable|add_weight|add_variable"
# Lists of variables, and variables of layers.
_LISTS = re.compile(r"(?<!get_)(variables|weights)\b(?!\()")
_OF_LAYERS = re.compile(r"\.(kernel|bias|embeddings|gamma|beta)$")


def as_arrays(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.Call:
    """A call whose variables and lists are arrays, if it takes no others."""
    row = OPERATIONS.get(name)
    if row is None or row.target not in _OF_NO_LISTS:
        return updated
    args = list(updated.args)
    for place, arg in enumerate(node.args):
        key = arg.keyword.value if arg.keyword else ""
        if arg.star or key in _NO_ARRAYS:
            continue
        if place == 1 and row.target == _COUNTS:
            args[place] = _counts(script, arg, args[place])
            continue
        listed = place == 0 or _takes_more(row.target, place)
        if (listed and _is_list(script, arg.value)) or (
            row.target in _OF_ARRAYS and _is_variable(script, arg.value)
        ):
            args[place] = _as_array(script, args[place])
            script.done(node, "an array of the value")
    return updated.with_changes(args=args)


def valued(script: Script, old: cst.Arg, new: cst.Arg) -> cst.Arg:
    """An argument, and an array of the value if it is a variable."""
    if old.star or old.keyword or not _is_variable(script, old.value):
        return new
    return _as_array(script, new)


def read(
    script: Script, node: cst.Call, updated: cst.Call
) -> cst.BaseExpression:
    """`v.read_value()` and `v.value()`, which is an attribute now."""
    assert isinstance(node.func, cst.Attribute)
    method, owner = node.func.attr.value, node.func.value
    if node.args or (method == "value" and not _is_variable(script, owner)):
        return updated
    if not script.of_tensorflow:
        return updated
    script.done(node, "`value`")
    return updated.func.with_changes(attr=cst.Name("value"))


def _as_array(script: Script, arg: cst.Arg) -> cst.Arg:
    tensor = cst.parse_expression(script.target("keras.ops.convert_to_tensor"))
    return arg.with_changes(value=cst.Call(tensor, [cst.Arg(arg.value)]))


def _takes_more(target: str, place: int) -> bool:
    """Whether the argument at a further place is an array."""
    if _OF_MORE.search(target):
        return True
    return place == 1 and _OF_TWO.search(target) is not None


def _counts(script: Script, old: cst.Arg, new: cst.Arg) -> cst.Arg:
    """Counts of repeats, as an array that a compiled function knows."""
    if not _is_list(script, old.value):
        return new
    call = f"{script.target('numpy.array')}({script.code(new.value)})"
    return new.with_changes(value=cst.parse_expression(call))


def _is_list(script: Script, node: cst.BaseExpression) -> bool:
    """Whether an argument is a list that is written here."""
    if isinstance(node, cst.List):
        return True
    values = values_of(script, node) if isinstance(node, cst.Name) else []
    return bool(values) and all(
        isinstance(v, cst.List) and v.elements for v in values
    )


def _is_variable(script: Script, node: cst.BaseExpression) -> bool:
    """Whether an argument is a variable, as far as the script tells."""
    text = script.code(node)
    if isinstance(node, cst.Subscript):
        return _kind(script, node) == "variables"
    if _OF_LAYERS.search(text):
        return True
    if any(_makes_one(script, v) for v in values_of(script, node)):
        return True
    if isinstance(node, cst.Attribute):  # of an object of some class here
        made = rf"self\.{node.attr.value}\s*=\s*[\w.]*({_CONSTRUCTORS})\("
        return re.search(made, script.text) is not None
    if not isinstance(node, cst.Name):
        return False
    looped = [
        _looped(script, made_by(each))
        for each in script.names.assignments(node)
    ]
    return any(v is not None and _holds(script, v) for v in looped)


def _holds(script: Script, node: cst.BaseExpression) -> bool:
    """Whether a list is one of variables."""
    if _LISTS.search(script.code(node)):
        return True
    for value in values_of(script, node):
        if isinstance(value, cst.ListComp) and _makes_one(script, value.elt):
            return True
        if isinstance(value, cst.List) and any(
            _makes_one(script, each.value) for each in value.elements
        ):
            return True
    return False


def _looped(
    script: Script, target: cst.CSTNode | None
) -> cst.BaseExpression | None:
    """What a loop gives to one of its names."""
    loop = target and script.within(target, (cst.For, cst.CompFor))
    if not isinstance(loop, (cst.For, cst.CompFor)):
        return None
    if loop.target is target:
        return loop.iter
    # Of `for g, v in zip(gradients, variables)`, what is at its place.
    if not isinstance(loop.target, cst.Tuple) or not (
        isinstance(loop.iter, cst.Call) and dotted(loop.iter.func) == "zip"
    ):
        return None
    for element, arg in zip(loop.target.elements, loop.iter.args, strict=False):
        if element.value is target:
            return arg.value
    return None


def returned(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """`result` of a metric gives an array, and not its variable."""
    owner = script.within(node, cst.ClassDef)
    if node.name.value != "result" or not isinstance(owner, cst.ClassDef):
        return updated
    body, given = updated.body, node.body.body[-1]
    if base_kind(script, owner) != "metric" or not (
        isinstance(body, cst.IndentedBlock)
        and isinstance(given, cst.SimpleStatementLine)
        and isinstance(given.body[0], cst.Return)
        and isinstance(given.body[0].value, cst.Attribute)
        and _is_variable(script, given.body[0].value)
    ):
        return updated
    script.done(node.name, "an array of the variable")
    tensor = cst.parse_expression(script.target("keras.ops.convert_to_tensor"))
    call = cst.Call(tensor, [cst.Arg(given.body[0].value)])
    last: Any = body.body[-1]
    last = last.with_changes(body=[cst.Return(call)])
    return updated.with_changes(
        body=body.with_changes(body=[*body.body[:-1], last])
    )
