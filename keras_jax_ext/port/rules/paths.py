"""What names a file, and how it ends."""

import ast
import re

from keras_jax_ext.port.script import Script

import libcst as cst

# Endings that another one takes the place of.
OLD = re.compile(r"(\.weights)?\.(ckpt|tf|h5|hdf5|keras|weights)$")


def key_of(script: Script, path: cst.BaseExpression) -> str:
    """What a file is told by: its name, or the code that makes it."""
    value: cst.BaseExpression | None = path
    if isinstance(path, cst.Name):
        made = script.names.assignments(path)
        value = script.names.value(made.pop()) if len(made) == 1 else None
    if not isinstance(value, cst.SimpleString):
        return script.code(path)
    text = str(ast.literal_eval(value.value))
    if value is not path and OLD.search(text):
        return script.code(path)  # such an ending stays in a name's value
    return repr(text.removeprefix("./"))


def ending(script: Script, node: cst.BaseExpression) -> str | None:
    """How the text of a path ends, if that is known."""
    if isinstance(node, cst.SimpleString):
        value = ast.literal_eval(node.value)
        return value if isinstance(value, str) else None
    if isinstance(node, cst.FormattedString):
        last = node.parts[-1] if node.parts else None
        return last.value if isinstance(last, cst.FormattedStringText) else None
    if isinstance(node, cst.BinaryOperation):
        side = node.right if isinstance(node.operator, cst.Add) else node.left
        return ending(script, side)
    if isinstance(node, cst.Call) and node.args:
        if (
            isinstance(node.func, cst.Attribute)
            and node.func.attr.value == "format"
        ):
            return ending(script, node.func.value)
        if script.code(node.func).endswith("join"):
            return ending(script, node.args[-1].value)
    if isinstance(node, cst.Name):
        values = [script.names.value(a) for a in script.names.assignments(node)]
        ends = {ending(script, v) if v is not None else None for v in values}
        return ends.pop() if len(ends) == 1 else None
    return None
