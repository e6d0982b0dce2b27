"""Arguments whose defaults are others in Keras 3: they are written out."""

from keras_jax_ext.port import exports
from keras_jax_ext.port.rules.operations import keyword
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.arguments import DEFAULTS

import libcst as cst


def written(
    script: Script, node: cst.Call, args: list[cst.Arg], name: str
) -> list[cst.Arg]:
    """The arguments, and those that a script of Keras 2 left out."""
    known = exports.signature(name)
    if known is None or any(a.star for a in args):
        return args
    by_place = sum(a.keyword is None for a in args)
    given = {*known.names[:by_place]}
    given |= {a.keyword.value for a in args if a.keyword is not None}
    added = []
    for key, value in DEFAULTS.get(name, {}).items():
        if key not in given:
            text = script.target(value) if "." in value[1:] else value
            script.done(node, f"`{key}={text}`: the default of Keras 2")
            added.append(keyword(key, cst.parse_expression(text)))
    return [*args, *added]
