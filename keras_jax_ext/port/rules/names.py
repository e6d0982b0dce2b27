"""A name in an expression: `tf.float32`, `layers.Dense`, `K.epsilon`."""

from keras_jax_ext.port import exports
from keras_jax_ext.port.resolve import ROOTS, dotted, root_of
from keras_jax_ext.port.rules.lookup import Found, find
from keras_jax_ext.port.script import Script

import libcst as cst


def rewrite(script: Script, node: cst.BaseExpression) -> cst.BaseExpression:
    """A chain of names as it is written now; the node itself if unchanged."""
    name = script.of(node)
    if name is None or name.split(".")[0] not in ROOTS:
        return node
    found = find(name)
    if found.value is not None:
        if isinstance(node, cst.Name) and not script.names.is_imported(node):
            return node  # what it stands for is rewritten where it is assigned
        if found.value.startswith("keras."):
            return cst.parse_expression(script.target(found.value))
        script.done(node, f"`{found.value}`")
        return cst.parse_expression(found.value)
    if found.name is None:
        if not _is_spoken_for(script, node, name):
            keep(script, node)
            script.todo(node, found.reason, found.recipe)
        return node
    if found.row is not None:
        return _function(script, node, found)
    return written(script, node, found.name)


def written(
    script: Script, node: cst.BaseExpression, name: str
) -> cst.BaseExpression:
    """A dotted name, by what the script has imported if it can."""
    if stays(script, node, name):
        return node
    text = script.target(name)
    if dotted(node) != text:
        script.done(node, f"`{text}`")
    return cst.parse_expression(text)


def stays(script: Script, node: cst.BaseExpression, name: str) -> bool:
    """Whether a chain still means `name` when its import is rewritten."""
    root = root_of(node)
    assert isinstance(root, cst.Name)
    base = script.names.quiet(root)
    if base is None or base == "tensorflow":
        return False
    now = find(base).name
    whole = dotted(node)
    rest = whole[len(root.value) :] if whole else ""
    if now is None or now + rest != name:
        return False
    if script.names.is_starred(root):
        return base == name  # its import brings no other one
    if now == "keras":
        return script.module_name("keras") == root.value
    return True


def keep(script: Script, node: cst.BaseExpression) -> None:
    """The import of a chain's first name has to stay."""
    root = root_of(node)
    if isinstance(root, cst.Name):
        script.kept.add(root.value)


def _is_spoken_for(script: Script, node: cst.CSTNode, name: str) -> bool:
    """Whether an alias of a module, `nn = tf.nn`, stands for other names."""
    parent = script.names.parents.get(node)
    if not isinstance(parent, cst.Assign) or parent.value is not node:
        return False
    return name.split(".")[0] == "tensorflow" and name in MODULES


def _function(
    script: Script, node: cst.BaseExpression, found: Found
) -> cst.BaseExpression:
    """A function that is not called here, but handed on."""
    assert found.row is not None
    assert found.name is not None
    short = found.name.rpartition(".")[2]
    activation = f"keras.activations.{short}"
    if found.name == activation or (
        found.name.startswith("keras.ops.") and exports.exists(activation)
    ):
        # A layer is saved with the name of its activation.
        return written(script, node, activation)
    plain = [t for t in found.row.arguments.split() if t[0] not in "-"]
    if len(plain) > 1 or any(c in t for t in plain for c in "!*=+"):
        keep(script, node)
        script.todo(
            node,
            "the arguments differ, and it is not called here",
            f"write a lambda that calls `{found.name}`",
        )
        return node
    return written(script, node, found.name)


# Modules of TensorFlow that scripts give a short name.
MODULES = (
    "tensorflow.nn",
    "tensorflow.math",
    "tensorflow.linalg",
    "tensorflow.random",
    "tensorflow.image",
    "tensorflow.data",
    "tensorflow.data.Dataset",
)
