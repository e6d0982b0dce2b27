"""`layer.output_shape` and the like, which are of tensors in Keras 3."""

import re

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.kinds import iterated
from keras_jax_ext.port.script import Script

import libcst as cst

_SHAPES = ("input_shape", "output_shape")
_HELPERS = {"input": "layer_input"}
_FIRST = re.compile(r"\.layers\[0\]$")
_LAYERS = re.compile(r"\.layers\b")
_LAYER = re.compile(r"(\blayer|\.layers\[[^\]]+\]|get_layer\(.*\))$")


def attribute(
    script: Script, node: cst.Attribute, updated: cst.Attribute
) -> cst.BaseExpression:
    """What the first layer takes, and the shapes of any."""
    attr = node.attr.value
    first = attr == "input" and _FIRST.search(script.code(node.value))
    shape = attr in _SHAPES and _is_layer(script, node.value)
    if not (first or shape):
        return updated
    owner = script.code(updated.value)
    # A model may begin with its input, which takes nothing, and whose shapes
    # are in a list.
    target = script.target(f"keras_jax_ext.keras2.{_HELPERS.get(attr, attr)}")
    script.done(node, f"`{target}`")
    return cst.parse_expression(f"{target}({owner})")


def _is_layer(script: Script, node: cst.BaseExpression) -> bool:
    """Whether an object is a layer, by its value or by its name."""
    if isinstance(node, cst.Name):
        for each in script.names.assignments(node):
            if _LAYERS.search(iterated(script, made_by(each))):
                return True
            value = script.names.value(each)
            if isinstance(value, cst.Call):
                name = dotted(value.func) and script.names.quiet(value.func)
                if (name or "").startswith("keras.layers."):
                    return True
                if script.code(value.func).endswith(".get_layer"):
                    return True
    return bool(_LAYER.search(script.code(node)))
