"""The order of weights, where a script takes one of them by its place."""

import re
from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.kinds import base_kind
from keras_jax_ext.port.script import Script

import libcst as cst

_LIST = r"(non_)?(trainable_)?(weights|variables)\b"
# A place in a list, all of a list, or a list that is shown or written.
_BY_PLACE = re.compile(
    rf"get_weights\(\)|set_weights\(|\.{_LIST}\s*\[|\bin [\w.]+\.{_LIST}"
    rf"|enumerate\([\w.]+\.{_LIST}|print\([^\n]*\.{_LIST}"
)
_OWN = ("add_weight", "add_variable")
_VARIABLES = ("tensorflow.Variable", "keras.backend.variable")
_MIXED = ("BatchNormalization", ".trainable")
_HELPER = "keras_jax_ext.keras2.weights_in_order"


def in_order(
    script: Script, node: cst.ClassDef, updated: cst.ClassDef
) -> cst.ClassDef:
    """A class whose weights Keras 3 would list in another order."""
    text = script.text
    kind = base_kind(script, node)
    if kind not in ("model", "layer") or not _BY_PLACE.search(text):
        return updated
    found = _Contents(script)
    node.visit(found)
    mixed = found.variables or (
        kind == "layer" and any(each in text for each in _MIXED)
    )
    if not (mixed and found.layers):
        return updated
    script.done(node.name, "its weights are in the order of Keras 2")
    mark = cst.Decorator(cst.parse_expression(script.target(_HELPER)))
    return updated.with_changes(decorators=[*updated.decorators, mark])


class _Contents(cst.CSTVisitor):
    """Whether a class makes layers, and variables of its own."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.layers = False
        self.variables = False

    def visit_Call(self, node: cst.Call) -> None:
        func = node.func
        name = (dotted(func) and self._script.names.quiet(func)) or ""
        by_method = isinstance(func, cst.Attribute) and func.attr.value in _OWN
        if by_method or name in _VARIABLES:
            self.variables = True
        self.layers |= name.startswith(("keras.layers.", "keras.Sequential"))
        self.layers |= name.startswith(("keras.models.", "keras.Model"))
        self.layers |= isinstance(func, cst.Name) and self._is_own(func)

    def _is_own(self, func: Any) -> bool:
        """Whether it is a class of layers or models of the script."""
        made = [made_by(a) for a in self._script.names.assignments(func)]
        return any(
            isinstance(each, cst.ClassDef)
            and base_kind(self._script, each) in ("model", "layer")
            for each in made
        )
