"""Lines that set TensorFlow up: nothing takes their place."""

import re

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.script import Script

import libcst as cst

_DROPPED = (
    "tensorflow.config.",
    "tensorflow.autograph.set_verbosity",
    "tensorflow.compat.v1.logging.",
    "tensorflow.compat.v1.enable_eager_execution",
    "tensorflow.compat.v1.enable_v2_behavior",
    "tensorflow.compat.v1.disable_eager_execution",
    "tensorflow.compat.v1.reset_default_graph",
    "tensorflow.enable_eager_execution",
    "tensorflow.enable_v2_behavior",
    "tensorflow.logging.",
    "tensorflow.debugging.set_log_device_placement",
    "tensorflow.debugging.enable_check_numerics",
    "tensorflow.random.get_seed",
)
# Set-up that is not silent about what it changes.
_KEPT = (
    "tensorflow.config.run_functions_eagerly",
    "tensorflow.config.experimental_run_functions_eagerly",
)
# The port chooses JAX, and another choice would be an error.
_CHOICE = re.compile(
    r"(os\.)?environ(\[.KERAS_BACKEND.\]\s*=|\.setdefault\(.KERAS_BACKEND)"
)


def is_dropped(script: Script, node: cst.BaseSmallStatement) -> bool:
    """Whether a line is left out."""
    if isinstance(node, cst.Assert):
        return _names_version(script, node.test)
    if _CHOICE.match(script.code(node)):
        return True
    if not (isinstance(node, cst.Expr) and isinstance(node.value, cst.Call)):
        return False
    func = node.value.func
    if isinstance(func, cst.Attribute) and func.attr.value == "set_shape":
        return script.of_tensorflow  # arrays of JAX know their shape
    name = script.names.quiet(func)
    if name is None or name in _KEPT:
        return name in _KEPT
    return name.startswith(_DROPPED)


def _names_version(script: Script, node: cst.CSTNode) -> bool:
    """Whether TensorFlow's version is asked for."""
    found = False

    class Search(cst.CSTVisitor):
        def visit_Attribute(self, node: cst.Attribute) -> bool | None:
            nonlocal found
            name = dotted(node) and script.names.quiet(node)
            if name and name.startswith(
                ("tensorflow.__version__", "tensorflow.version")
            ):
                found = True
            return None

    node.visit(Search())
    return found
