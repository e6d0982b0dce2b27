"""Attributes of layers, models and optimizers that Keras 3 does not have."""

import re

from keras_jax_ext.port.rules.kinds import may_be_model
from keras_jax_ext.port.script import Script

import libcst as cst

_NODES = "take the layers of `model.layers`, and their `input` and `output`"
_MASKS = "use `compute_mask`, or hand the mask on"
_STATES = "leave it out: states are written by themselves"
# Attribute -> what to do by hand.
_OF_ANY = {
    "inbound_nodes": _NODES,
    "outbound_nodes": _NODES,
    "input_mask": _MASKS,
    "output_mask": _MASKS,
    "get_input_mask_at": _MASKS,
    "get_output_mask_at": _MASKS,
    "get_input_shape_at": "use `kje.keras2.input_shape`",
    "state_updates": _STATES,
    "total_loss": "use `compute_loss`",
    "get_weight_paths": "use `path` of each weight",
    "compute_output_signature": "use `compute_output_spec`",
    "distribute_strategy": "leave it out",
    "save_spec": "use `input`",
    "is_adapted": "leave it out",
    "make_adapt_function": "leave it out",
    "get_dropout_mask_for_cell": "use `get_dropout_mask`",
    "get_recurrent_dropout_mask_for_cell": "use `get_recurrent_dropout_mask`",
    "compute_gradients": "use `kje.value_and_grad`",
    "aggregate_gradients": "leave it out",
    "uses_learning_phase": "leave it out",
}
# The same, of words that other objects have, too.
_OF_MODELS = {
    "updates": _STATES,
    "submodules": "go through `layers`",
    "stateful": 'use `getattr(layer, "stateful", False)`',
    "targets": "give them to the function as arguments",
    "sample_weights": "give them to the function as arguments",
}
_LAYER = re.compile(r"(\blayer|\.layers\[[^\]]+\]|get_layer\(.*\))$")


def check(script: Script, node: cst.Attribute) -> None:
    """Refuse an attribute that is read, and that no class here defines."""
    attr = node.attr.value
    recipe = _OF_ANY.get(attr)
    if attr in _OF_MODELS and _is_of_keras(script, node.value):
        recipe = _OF_MODELS.get(attr)
    if recipe is None or not script.of_tensorflow:
        return
    target = isinstance(script.names.parents.get(node), cst.AssignTarget)
    if target or _is_own(script, attr):
        return
    script.todo(node, f"Keras 3 has no `{attr}`", recipe)


def _is_of_keras(script: Script, owner: cst.BaseExpression) -> bool:
    text = script.code(owner)
    if text == "self":
        return False
    return bool(_LAYER.search(text)) or may_be_model(script, owner)


def _is_own(script: Script, attr: str) -> bool:
    """Whether the script gives its objects an attribute of that name."""
    text = script.text
    return bool(re.search(rf"def {attr}\b|\.{attr}\s*=[^=]", text))
