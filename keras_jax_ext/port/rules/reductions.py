"""Calls that reduce an array by other axes than those of Keras 3."""

from keras_jax_ext.port.rules import names, operations
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst


def norm(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression | None:
    """Without an axis it is that of all entries, and not of a matrix."""
    order = ("tensor", "ord", "axis", "keepdims", "name")
    args = list(updated.args)
    keys = [
        a.keyword.value if a.keyword else n
        for a, n in zip(args, order, strict=False)
    ]
    for i, arg in enumerate(args):  # an axis of JAX's is hashed
        if isinstance(arg.value, cst.List) and keys[i] == "axis":
            axis = cst.parse_expression(f"tuple({script.code(arg.value)})")
            args[i] = arg.with_changes(value=axis)
    updated = updated.with_changes(args=args)
    if "ord" not in keys or any(a.star for a in args):
        return operations.rewrite(script, node, updated, name)
    place = keys.index("ord")
    kind = script.code(args[place].value).strip("\"'")
    if kind == "euclidean" or (kind == "2" and "axis" not in keys):
        args[place] = args[place].with_changes(value=cst.Name("None"))
    elif "axis" not in keys and keys == ["tensor", "ord"]:
        flat = cst.parse_expression(script.target("keras.ops.ravel"))
        call = cst.Call(flat, [cst.Arg(args[0].value)])
        args[0] = args[0].with_changes(value=call)
    elif "axis" not in keys:
        names.keep(script, node.func)
        script.todo(
            node, "this `ord=` without an axis", "ravel the array before it"
        )
        return updated
    updated = updated.with_changes(args=tidy(args))
    return operations.rewrite(script, node, updated, name)


def binary_accuracy(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression:
    """It was the mean of each row, and is of each entry now."""
    script.done(node, "the mean of each row")
    func = names.written(script, node.func, name)
    call = script.code(updated.with_changes(func=func))
    mean = script.target("keras.ops.mean")
    return cst.parse_expression(f"{mean}({call}, axis=-1)")
