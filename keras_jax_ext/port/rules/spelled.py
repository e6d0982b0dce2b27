"""Parts of a layer that a string names, by names of Keras 2."""

from keras_jax_ext.port.rules.operations import keyword
from keras_jax_ext.port.script import Script

import libcst as cst

# By the end of the argument's name: value -> what is written now.
_NAMES = {
    "constraint": {
        "maxnorm": "max_norm",
        "nonneg": "non_neg",
        "unitnorm": "unit_norm",
    },
    "initializer": {"constant": "zeros"},
}
# Layers that Keras 2 took for a function by their names.
_LAYERS = ("LeakyReLU", "ReLU", "ELU", "Softmax")
_WITH_WEIGHTS = ("PReLU", "ThresholdedReLU")


def out(
    script: Script, node: cst.Call, args: list[cst.Arg], name: str
) -> list[cst.Arg]:
    """The arguments with strings that Keras 3 knows."""
    return [
        _argument(script, node, arg, name, place)
        for place, arg in enumerate(args)
    ]


def _argument(script, node, arg, name, place) -> cst.Arg:
    value = arg.value
    key = arg.keyword.value if arg.keyword else ""
    if not isinstance(value, cst.SimpleString) or value.prefix:
        return arg
    text = value.raw_value
    if name == "keras.layers.Activation" and place == 0:
        key = "activation"
    if key == "activation" and text in _WITH_WEIGHTS:
        script.todo(
            node,
            f'`"{text}"` is no activation of Keras 3',
            "put the layer of that name behind this one",
        )
    elif key == "activation" and text in _LAYERS:
        target = script.target(f"keras.layers.{text}")
        script.done(node, f"`{target}()`")
        call = cst.parse_expression(f"{target}()")
        return arg.with_changes(value=call)
    now = _NAMES.get(key.rpartition("_")[2], {}).get(text)
    if now is None:
        return arg
    script.done(node, f"`{now}`")
    return keyword(
        key, cst.SimpleString(f"{value.quote}{now}{value.quote}"), arg
    )
