"""`layer.output_shape`, which is that of a tensor in Keras 3."""

import re

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.kinds import iterated
from keras_jax_ext.port.script import Script

import libcst as cst

_SHAPES = ("input_shape", "output_shape")
_LAYERS = re.compile(r"\.layers\b")
_LAYER = re.compile(r"(\blayer|\.layers\[[^\]]+\]|get_layer\(.*\))$")


def attribute(
    script: Script, node: cst.Attribute, updated: cst.Attribute
) -> cst.BaseExpression:
    """The shape of a layer's inputs or outputs."""
    if node.attr.value not in _SHAPES or not _is_layer(script, node.value):
        return updated
    script.done(node, "the shape of its tensor")
    tensor = node.attr.value.partition("_")[0]
    owner = script.code(updated.value)
    if tensor == "input" and isinstance(node.value, cst.Name):
        # The first layer of a model may be its input, which has none.
        target = script.target("keras_jax_ext.keras2.input_shape")
        return cst.parse_expression(f"{target}({owner})")
    return cst.parse_expression(f"{owner}.{tensor}.shape")


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
