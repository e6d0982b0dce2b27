"""Variables given to functions that take arrays alone."""

import re

from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules.kinds import iterated
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst

# By the last part of their names: with JAX these do not read a variable.
_OF_ARRAYS = (
    "zeros_like",
    "ones_like",
    "where",
    "switch",
    "unstack",
    "top_k",
    "in_top_k",
    "moments",
    "count_nonzero",
    "band_part",
    "map_fn",
    "vectorized_map",
    "resize",
    "max_pool",
    "max_pool2d",
    "avg_pool",
    "avg_pool2d",
)
_MADE = re.compile(r"(Variable|\bvariable|\.add_weight|\.add_variable)$")
_HELD = re.compile(r"(variables|weights)\b")


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.Call:
    """A call of such a function, with the values of variables."""
    if name.rpartition(".")[2] not in _OF_ARRAYS:
        return updated
    args = list(updated.args)
    for place, arg in enumerate(node.args):
        if arg.star or not _is_variable(script, arg.value):
            continue
        func = cst.parse_expression(
            script.target("keras.ops.convert_to_tensor")
        )
        call = cst.Call(func, [cst.Arg(args[place].value)])
        args[place] = args[place].with_changes(value=call)
        script.done(node, "the value of a variable")
    return updated.with_changes(args=tidy(args))


def _is_variable(script: Script, node: cst.BaseExpression) -> bool:
    """Whether an expression may be a variable, as far as the script tells."""
    if isinstance(node, cst.Attribute):
        text = re.escape(script.code(node))
        made = re.search(rf"{text}\s*=\s*([\w.]+)\(", script.module.code)
        return bool(made and _MADE.search(made[1]))
    if not isinstance(node, cst.Name):
        return False
    for each in script.names.assignments(node):
        value = script.names.value(each)
        maker = script.code(value.func) if isinstance(value, cst.Call) else ""
        loop = iterated(script, made_by(each))
        if _MADE.search(maker) or _HELD.search(loop):
            return True
    return False
