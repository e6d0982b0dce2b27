"""Calls that reduce an array by other axes than those of Keras 3."""

from keras_jax_ext.port.rules import names, operations
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst

# Functions that make labels of `(n,)` the shape of outputs of `(n, 1)` now.
_SQUEEZED = {
    "mean_squared_error": ("mse", "MSE"),
    "mean_absolute_error": ("mae", "MAE"),
    "mean_absolute_percentage_error": ("mape", "MAPE"),
    "mean_squared_logarithmic_error": ("msle", "MSLE"),
    "log_cosh": ("logcosh",),
    "huber": (),
}
ERRORS = {
    f"keras.{module}.{name}": f"keras.losses.{now}"
    for module in ("losses", "metrics")
    for now, short in _SQUEEZED.items()
    for name in (now, *short)
}


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


def error(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression:
    """It was of all pairs, where labels have an axis less than outputs."""
    func = names.written(script, node.func, ERRORS[name])
    args = list(updated.args)
    keys = [a.keyword.value if a.keyword else "" for a in args[:2]]
    plain = keys in (["", ""], ["", "y_pred"], ["y_true", "y_pred"])
    if plain and not any(a.star for a in args):
        both = ", ".join(script.code(a.value) for a in args[:2])
        helper = script.target("keras_jax_ext.keras2.broadcast")
        shaped = cst.parse_expression(f"{helper}({both})")
        script.done(node, "labels and outputs of one shape")
        args = [cst.Arg(shaped, star="*"), *args[2:]]
    return updated.with_changes(func=func, args=tidy(args))
