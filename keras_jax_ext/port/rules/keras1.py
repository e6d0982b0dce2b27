"""Layers as Keras 1 wrote them, where more than a name changed."""

import re
from typing import Any

from keras_jax_ext.port.rules import names
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.keras1 import (
    CONVOLUTIONS_2D,
    LAYERS,
    MERGES,
    ORDERINGS,
)

import libcst as cst

# Arguments that show that a script is of Keras 1, and a comment.
_SHOWN = re.compile(
    r"[(,]\s*(nb_epoch|border_mode|nb_filter|nb_row|filter_length|pool_length"
    r"|dim_ordering|W_regularizer|inner_init|samples_per_epoch)\s*=[^=]"
)
_COMMENT = re.compile(r"#.*")
_OF_KERAS = re.compile(r"^\s*(from|import) keras\b", re.MULTILINE)


def named(
    script: Script, node: cst.Call, args: list[cst.Arg], name: str
) -> list[cst.Arg]:
    """The arguments of a layer, before those of one other name."""
    module, _, layer = name.rpartition(".")
    if module != "keras.layers" or layer not in LAYERS:
        return args
    if layer in CONVOLUTIONS_2D:
        args = _kernel(script, node, args)
    return [new for arg in args for new in _argument(script, node, arg, layer)]


def _argument(script, node, arg, layer) -> list[cst.Arg]:
    key = arg.keyword.value if arg.keyword else None
    text = script.code(arg.value)
    unchanged = (
        (layer == "BatchNormalization" and key == "mode" and text == "0")
        or (key == "forget_bias_init" and text.strip("\"'") == "one")
        or (key == "dim_ordering" and text.strip("\"'") == "default")
    )
    if unchanged:
        script.done(node, f"`{key}=` is left out: it is the default")
        return []
    if key != "dim_ordering":
        return [arg]
    now: Any = ORDERINGS.get(text.strip("\"'"))
    now = f'"{now}"' if now else f"{ORDERINGS}[{text}]".replace("'", '"')
    return [arg.with_changes(value=cst.parse_expression(now))]


def _kernel(script, node, args) -> list[cst.Arg]:
    """`Convolution2D(64, 3, 3)`: two numbers were one size of a kernel."""
    keys = {a.keyword.value: a.value for a in args if a.keyword}
    if "nb_row" in keys and "nb_col" in keys:
        rows, columns = keys["nb_row"], keys["nb_col"]
        kept = [
            a
            for a in args
            if not (a.keyword and a.keyword.value in ("nb_row", "nb_col"))
        ]
        place = 1 if kept and kept[0].keyword is None else 0
    elif _has_two_sizes(script, args):
        rows, columns = args[1].value, args[2].value
        if not _is_of_keras1(script, node):
            script.todo(
                node,
                "the third number is of the kernel in Keras 1, and the "
                "strides in Keras 2",
                "write `kernel_size=` as a tuple, or `strides=`",
            )
            return args
        kept, place = [args[0], *args[3:]], 1
    else:
        return args
    size = f"({script.code(rows)}, {script.code(columns)})"
    script.done(node, f"`kernel_size={size}`")
    value = cst.parse_expression(size)
    new = cst.Arg(value) if place else keyword("kernel_size", value)
    return [*kept[:place], new, *kept[place:]]


def _has_two_sizes(script, args) -> bool:
    if len(args) < 3 or any(a.keyword or a.star for a in args[:3]):
        return False
    if not _OF_KERAS.search(script.text):
        return False  # `tf.keras` began with Keras 2
    second, third = args[1].value, args[2].value
    same = script.code(second) == script.code(third)
    return isinstance(third, cst.Integer) or (
        same and isinstance(third, cst.Name)
    )


def _is_of_keras1(script, node) -> bool:
    gone = {"init", "subsample", "bias", "border_mode", "W_regularizer"}
    keys = {a.keyword.value for a in node.args if a.keyword}
    code = _COMMENT.sub("", script.text)
    return bool(keys & gone) or bool(_SHOWN.search(code))


def merged(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression:
    """`merge([a, b], mode="concat")`, and `Merge(mode=...)([a, b])`."""
    given: dict[str, Any] = {}
    for arg, key in zip(updated.args, ("inputs", "mode"), strict=False):
        if arg.keyword is None and not arg.star:
            given[key] = arg.value
    given |= {a.keyword.value: a.value for a in updated.args if a.keyword}
    is_class = name.endswith("Merge")
    mode = given.get("mode", cst.SimpleString('"sum"'))
    now = MERGES.get(script.code(mode).strip("\"'"))
    known = {"mode", "concat_axis", "name", *(() if is_class else ["inputs"])}
    if now is None or not set(given) <= known or _is_starred(updated):
        names.keep(script, node.func)
        script.todo(
            node,
            "Keras 2 has no such `merge`",
            "use the functional API, and `keras.layers.concatenate`, `add` "
            "or `Dot`",
        )
        return updated
    target = now
    if is_class:
        target = now.capitalize()
    args = [cst.Arg(given["inputs"])] if "inputs" in given else []
    if now == "concatenate" and "concat_axis" in given:
        args.append(keyword("axis", given["concat_axis"]))
    if "name" in given:
        args.append(keyword("name", given["name"]))
    script.done(node, f"`keras.layers.{target}`")
    func = names.written(script, node.func, f"keras.layers.{target}")
    return updated.with_changes(func=func, args=tidy(args))


def _is_starred(node: cst.Call) -> bool:
    return any(a.star for a in node.args)
