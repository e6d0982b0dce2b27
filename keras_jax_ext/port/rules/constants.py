"""`tf.constant` and its like: strings, modes, and shapes that are filled."""

from typing import Any

from keras_jax_ext.port.rules import calling, names, operations
from keras_jax_ext.port.rules.arguments import value_of, without
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst


def constant(script, node, updated, name):
    first = node.args[0].value if node.args else None
    if _is_mode(script, node, first):
        script.done(node, "the mode is a bool of Python's")
        return first
    dtype = value_of(list(node.args), "dtype")
    if _has_strings(first) or (
        dtype is not None and script.names.quiet(dtype) == "tensorflow.string"
    ):
        names.keep(script, node.func)
        script.todo(
            node,
            "a tensor of strings has no counterpart",
            "write it by hand",
        )
        return updated
    shape = value_of(list(updated.args), "shape")
    if shape is None or name != "tensorflow.constant":
        return operations.rewrite(script, node, updated, name)
    inner = operations.rewrite(
        script,
        node,
        updated.with_changes(args=tidy(without(updated.args, "shape"))),
        name,
    )
    # One number fills the shape, several are put into it.
    helper = (
        "broadcast_to"
        if isinstance(first, (cst.Integer, cst.Float))
        else "reshape"
    )
    func = script.target(f"keras.ops.{helper}")
    return cst.parse_expression(
        f"{func}({script.code(inner)}, {script.code(shape)})"
    )


def _is_mode(script: Script, node: Any, value: Any) -> bool:
    """Whether it is `training = tf.constant(False)`: layers ask for it."""
    outer: Any = script.names.parents.get(node)
    return (
        isinstance(value, cst.Name)
        and value.value in ("True", "False")
        and isinstance(outer, cst.Assign)
        and all(script.code(t.target) in calling.MODES for t in outer.targets)
    )


def both(script, node, updated, name):
    """`tf.logical_and(training, self.trainable)` is of bools of Python's."""
    first = node.args[0] if len(node.args) == 2 else None
    if first is None or script.code(first.value) not in calling.MODES:
        return operations.rewrite(script, node, updated, name)
    script.done(node, "the mode is a bool of Python's")
    mode, other = (script.code(a.value) for a in updated.args)
    return cst.parse_expression(f"({mode} and {other})")


def _has_strings(node: Any) -> bool:
    """Whether a value is a string, or a list that begins with one."""
    while isinstance(node, (cst.List, cst.Tuple)) and node.elements:
        node = node.elements[0].value
    return isinstance(node, cst.BaseString)
