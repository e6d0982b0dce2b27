"""Sizes of batches of symbolic tensors, which no number stands for."""

from typing import Any

from keras_jax_ext.port import visiting
from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.script import Script

import libcst as cst

_SHAPES = ("tensorflow.shape", "keras.backend.shape")
_INPUTS = ("keras.Input", "keras.layers.Input")
# `None` is the one size that a reshape does not know.
_RESHAPES = ("tensorflow.reshape", "keras.backend.reshape")
_DEEPEST = 40  # layers behind an input


def mark(script: Script) -> None:
    """Refuse `tf.random.normal((tf.shape(x)[0], 2))` of a symbolic tensor."""
    script.module.visit(_Shapes(script))


class _Shapes(visiting.Names):
    def __init__(self, script: Script) -> None:
        self._script = script

    def visit_Call(self, node: cst.Call) -> None:
        script = self._script
        if _called(script, node) not in _SHAPES or not node.args:
            return
        outer: Any = script.names.parents.get(node)
        if isinstance(outer, cst.Subscript) and not _is_of_batch(script, outer):
            return
        around = [n for n in script.names.up(node) if isinstance(n, cst.Call)]
        if any(_called(script, each) in _RESHAPES for each in around):
            return
        if _is_symbolic(script, node.args[0].value, script.names.line(node), 0):
            script.todo(
                node,
                "the size of a batch is no number where a model is put "
                "together",
                "compute it in the `call` of a layer, or in a "
                "`keras.layers.Lambda`",
            )


def _called(script: Script, node: cst.Call) -> str | None:
    return script.names.quiet(node.func) if dotted(node.func) else None


def _is_of_batch(script: Script, node: cst.Subscript) -> bool:
    places = [script.code(each.slice) for each in node.slice]
    return places in (["0"], [":"])


def _is_symbolic(script: Script, node: Any, line: int, depth: int) -> bool:
    """Whether a value is computed of an `Input` of this scope."""
    if depth > _DEEPEST:
        return False
    if isinstance(node, cst.Call):
        if _called(script, node) in _INPUTS:
            return True
        if not isinstance(node.func, (cst.Call, cst.Name)):
            return False
        return any(
            _is_symbolic(script, a.value, line, depth + 1) for a in node.args
        )
    if not isinstance(node, cst.Name):
        return False
    names = script.names
    made = [
        (names.line(made_by(a)), names.value(a))
        for a in names.assignments(node)
        if made_by(a) is not None
    ]
    before = [each for each in made if each[0] < line]
    if not before:
        return False
    place, value = max(before, key=lambda each: each[0])
    return _is_symbolic(script, value, place, depth + 1)
