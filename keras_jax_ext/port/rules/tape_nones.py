"""Gradients that are `None`: by variables that a tape does not read."""

import re

from keras_jax_ext.port.rules.flow import names_in
from keras_jax_ext.port.script import Script

import libcst as cst

# How scripts call a gradient, where it comes from another function.
_USUAL = re.compile(r"(?i)(g|d[a-z]\d?|\w*grad(ient)?s?\w*)$")
_ORIGINS = (cst.For, cst.CompFor)
_WITH_ZEROS = re.compile(r"unconnected_gradients\s*=\s*(?!None\b)")


def may_be_none(
    script: Script, calls: list[cst.Call], names: list[str], body: str
) -> bool:
    """Whether a script asks for such gradients, or shows one.

    Zeros stand for them elsewhere, by which no variable changes.
    """
    if any(_WITH_ZEROS.search(script.code(each)) for each in calls):
        return False
    if any(_is_elsewhere(script, each, body) for each in calls):
        return True
    known = {word for name in names for word in re.findall(r"\w+", name)}
    finder = _Comparisons(script, known)
    script.module.visit(finder)
    return finder.found


def _is_elsewhere(script, call: cst.Call, body: str) -> bool:
    """Whether a gradient is by a variable that the body does not name."""
    if len(call.args) < 2:
        return False
    sources = call.args[1].value
    leaves = [sources]
    if isinstance(sources, (cst.List, cst.Tuple)):
        leaves = [e.value for e in sources.elements]
    return any(
        isinstance(leaf, cst.Name)
        and leaf.value not in names_in(body)
        and _is_made_a_variable(script, leaf)
        and not _calls_functions(script, body)
        for leaf in leaves
    )


def _is_made_a_variable(script: Script, name: cst.Name) -> bool:
    values = [script.names.value(a) for a in script.names.assignments(name)]
    return bool(values) and all(
        isinstance(v, cst.Call)
        and script.names.quiet(v.func) == "tensorflow.Variable"
        for v in values
    )


def _calls_functions(script: Script, body: str) -> bool:
    """Whether a body calls what may read variables: anything but TensorFlow."""
    called = re.findall(r"(?<![\w.])(\w+)(?:\.\w+)*\(", body)
    return any(
        each not in ("tf", "tensorflow", "K", "np", "float") for each in called
    )


class _Comparisons(cst.CSTVisitor):
    """Whether a gradient is compared with `None`."""

    def __init__(self, script: Script, known: set[str]) -> None:
        self._script = script
        self._known = known
        self.found = False

    def visit_Comparison(self, node: cst.Comparison) -> None:
        right = node.comparisons[0].comparator
        if not (isinstance(right, cst.Name) and right.value == "None"):
            return
        left = node.left
        while isinstance(left, cst.Subscript):
            left = left.value
        if isinstance(left, cst.Name):
            name = left.value
            self.found |= name in self._known or bool(_USUAL.match(name))
            self.found |= self._is_of_gradients(node, name)

    def _is_of_gradients(self, node: cst.CSTNode, name: str) -> bool:
        """Whether a name is that of a loop over gradients."""
        for each in self._script.names.up(node):
            loops = [each] if isinstance(each, _ORIGINS) else []
            loops += [f] if (f := getattr(each, "for_in", None)) else []
            for loop in loops:
                target = self._script.code(loop.target)
                over = self._script.code(loop.iter)
                if name in re.findall(r"\w+", target) and any(
                    _USUAL.match(word) or word in self._known
                    for word in re.findall(r"\w+", over)
                ):
                    return True
        return False
