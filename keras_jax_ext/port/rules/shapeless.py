"""Functions whose result has a shape that only the values tell."""

import re

from keras_jax_ext.port.rules import names
from keras_jax_ext.port.script import Script

import libcst as cst

NOTE = "not in a compiled function"
_METHODS = ("call", "train_step", "test_step", "update_state")
_FITS = re.compile(r"\.(fit|fit_generator|train_on_batch)\(")


def refused(script: Script, node: cst.Call, short: str) -> bool:
    """Say so, where such a call is surely compiled."""
    if not _is_compiled(script, node):
        return False
    names.keep(script, node.func)
    script.todo(
        node,
        f"the shape of `{short}` is known by the values alone, and this "
        "function is compiled",
        "keep all entries, and multiply by the mask",
    )
    return True


def _is_compiled(script: Script, node: cst.Call) -> bool:
    """Whether `fit` compiles the function that a node is in."""
    text = script.module.code
    if _FITS.search(text) is None or "run_eagerly=True" in text:
        return False
    functions = [
        each.name.value
        for each in script.names.up(node)
        if isinstance(each, cst.FunctionDef)
    ]
    if script.within(node, cst.ClassDef) is not None:
        return any(name in _METHODS for name in functions)
    finder = _Compiled(script)
    script.module.visit(finder)
    return any(re.search(rf"\b{n}\b", finder.text) for n in functions)


class _Compiled(cst.CSTVisitor):
    """The text of all that `compile` is given."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.text = ""

    def visit_Call(self, node: cst.Call) -> None:
        func = node.func
        if isinstance(func, cst.Attribute) and func.attr.value == "compile":
            self.text += " ".join(map(self._script.code, node.args)) + "\n"
