"""Functions of Keras 2 and TensorFlow that need more than a row, too."""

from typing import Any

from keras_jax_ext.port.rules import arguments, names, operations
from keras_jax_ext.port.rules.arguments import value_of, without
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst


def floatx(script: Script, node: cst.Call, updated: cst.Call, name: str) -> Any:
    """JAX computes in 64 bits only where it is told to."""
    value = node.args[0].value if node.args else None
    if isinstance(value, cst.SimpleString) and "float64" in value.value:
        line = f'{script.target("jax.config")}.update("jax_enable_x64", True)'
        script.preceding[script.statement(node)] = line
        script.done(node, "JAX computes in 64 bits, too")
    return operations.rewrite(script, node, updated, name)


def shuffle_and_repeat(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> Any:
    """A function for `apply` of a dataset."""
    order = ("buffer_size", "count", "seed")
    if any(arg.star for arg in node.args) or len(node.args) > len(order):
        return refused(script, node, updated, "this `shuffle_and_repeat`")
    given = {
        arg.keyword.value if arg.keyword else order[place]: arg.value
        for place, arg in enumerate(updated.args)
    }
    texts = {key: script.code(value) for key, value in given.items()}
    data = script.fresh("data")
    seed = f", seed={texts['seed']}" if "seed" in texts else ""
    script.done(node, "`shuffle`, and `repeat`")
    return cst.parse_expression(
        f"lambda {data}: {data}.shuffle({texts['buffer_size']}{seed})"
        f".repeat({texts.get('count', '')})"
    )


_RESIZES = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


def resize(script: Script, node: cst.Call, updated: cst.Call, name: str) -> Any:
    """By a way that Keras 3 has, too."""
    way: Any = value_of(list(node.args), "method")
    if way is None and len(node.args) > 2 and node.args[2].keyword is None:
        way = node.args[2].value
    if isinstance(way, cst.SimpleString) and way.evaluated_value not in (
        _RESIZES
    ):
        return refused(script, node, updated, f"`method={way.value}`")
    return operations.rewrite(script, node, updated, name)


def categorical(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> Any:
    """`dtype=`, which the array is given behind it."""
    args = list(updated.args)
    dtype = value_of(args, "dtype")
    if dtype is None and len(args) == 3 and args[2].keyword is None:
        dtype, args = args[2].value, args[:2]
    func = names.written(script, node.func, "keras.utils.to_categorical")
    args = tidy(without(args, "dtype"))
    updated = updated.with_changes(func=func, args=args)
    call = arguments.rewrite(script, node, updated, name)
    if dtype is None:
        return call
    script.done(node, "`astype` of it")
    text = f"{script.code(call)}.astype({script.code(dtype)})"
    return cst.parse_expression(text)


def set_value(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> Any:
    if len(updated.args) != 2:
        return refused(script, node, updated, "this `K.set_value`")
    target, value = (script.code(a.value) for a in updated.args)
    script.done(node, "`assign`")
    if target.endswith((".lr", ".learning_rate")):
        owner = target.rpartition(".")[0]
        return cst.parse_expression(
            f'setattr({owner}, "learning_rate", {value})'
        )
    return cst.parse_expression(f"{target}.assign({value})")


def refused(
    script: Script, node: cst.Call, updated: cst.Call, what: str
) -> cst.Call:
    """Say that something has no counterpart."""
    names.keep(script, node.func)
    script.todo(node, f"{what} has no counterpart", "write it by hand")
    return updated
