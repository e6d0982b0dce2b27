"""Values that the body of a tape reads: NumPy's, to print or to count by."""

import re

from keras_jax_ext.port import visiting
from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules.flow import names_in
from keras_jax_ext.port.rules.tape_uses import Left
from keras_jax_ext.port.script import Script

import libcst as cst

_READERS = ("float", "print", "str", "repr", "round", "format")


def read_names(
    script: Script, body: cst.CSTNode, assigned: list[str]
) -> set[cst.CSTNode]:
    """Names of the body's own tensors, where their values are read.

    Raises:
        Left: If a tensor is stored where it outlives the body.
    """
    finder = _Reads(script, body, assigned)
    body.visit(finder)
    return finder.found


def _appended_and_read(script: Script, body: cst.CSTNode) -> set[str]:
    """Lists that a body fills, and computes with: tensors must stay in them."""
    text = script.code(body)
    found = set()
    for name in set(re.findall(r"([\w.]+)\.append\(", text)):
        uses = re.findall(rf"(?<![\w.]){re.escape(name)}\b(?!\.append\()", text)
        if uses:
            found.add(name)
    return found


def _is_emptied(script: Script, body: cst.CSTNode, name: str) -> bool:
    """Whether a list is made anew in each turn, and not read behind a body."""
    use = rf"(?<![\w.]){re.escape(name)}\b"
    empty = re.compile(use + r"(\.clear\(\)|\s*=\s*(\[\]|list\(\)))")
    turn = script.within(body, (cst.FunctionDef, cst.For, cst.While))
    if empty.search(script.code(turn or script.module)) is None:
        return False
    owner = script.within(body, cst.FunctionDef) or script.module
    last = script.names.places[owner].end.line
    lines = script.module.code.splitlines()[:last]
    behind = "\n".join(lines[script.names.places[body].end.line :])
    first = re.search(use, behind)
    return first is None or bool(empty.match(behind, first.start()))


class _Reads(visiting.Names):
    def __init__(
        self, script: Script, body: cst.CSTNode, assigned: list[str]
    ) -> None:
        self._script = script
        self._body = body
        self._assigned = set(assigned)
        self._kept = _appended_and_read(script, body)
        self._depth = 0
        self._reading: set[cst.CSTNode] = set()
        self.found: set[cst.CSTNode] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._reads(node):
            self._reading.add(node)
            self._depth += 1
        return super().on_visit(node)

    def on_leave(self, node: cst.CSTNode) -> None:
        super().on_leave(node)
        if node in self._reading:
            self._depth -= 1

    def _reads(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FormattedStringExpression):
            return True
        if isinstance(node, cst.BinaryOperation):
            return isinstance(node.operator, cst.Modulo) and isinstance(
                node.left, cst.BaseString
            )
        if not isinstance(node, cst.Call):
            return False
        name = dotted(node.func)
        if name in _READERS or (self._of(node.func) or "").startswith("numpy."):
            return True
        if not isinstance(node.func, cst.Attribute):
            return False
        owner, method = node.func.value, node.func.attr.value
        if method == "format" and isinstance(owner, cst.BaseString):
            return True
        # A list that outlives the body, where a tensor must not stay.
        text = self._script.code(owner)
        if method != "append" or names_in(text) & self._assigned:
            return False
        if text in self._kept and names_in(self._script.code(node)) & (
            self._assigned
        ):
            if not _is_emptied(self._script, self._body, text):
                raise Left(f"its body keeps a tensor in `{text}`")
            return False
        return True

    def _of(self, node: cst.BaseExpression) -> str | None:
        return self._script.names.quiet(node) if dotted(node) else None

    def visit_Name(self, node: cst.Name) -> None:
        parent = self._script.names.parents.get(node)
        if (
            self._depth
            and node.value in self._assigned
            and not isinstance(parent, cst.Attribute)
        ):
            self.found.add(node)

    def visit_Assign(self, node: cst.Assign) -> None:
        for each in node.targets:
            if isinstance(each.target, cst.Name | cst.Tuple | cst.List):
                continue
            value = names_in(self._script.code(node.value))
            root = names_in(self._script.code(each.target))
            if value & self._assigned and not root & self._assigned:
                where = self._script.code(each.target)
                raise Left(f"its body keeps a tensor in `{where}`")
