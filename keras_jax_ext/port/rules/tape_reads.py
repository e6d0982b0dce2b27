"""Values that the body of a tape reads: NumPy's, to print or to count by."""

import builtins
import re

from keras_jax_ext.port import visiting
from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules.flow import names_in
from keras_jax_ext.port.rules.tape_uses import Left
from keras_jax_ext.port.script import Script

import libcst as cst

_READERS = ("float", "print", "str", "repr", "round", "format")
# What is known of a tensor that is traced.
_KNOWN = ("shape", "dtype", "ndim", "numpy")


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
    lines = script.text.splitlines()[:last]
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
        if self.reads(node):
            self._reading.add(node)
            self._depth += 1
        return super().on_visit(node)

    def on_leave(self, node: cst.CSTNode) -> None:
        super().on_leave(node)
        if node in self._reading:
            self._depth -= 1

    def reads(self, node: cst.CSTNode) -> bool:
        """Whether a node takes the values of the tensors in it."""
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
        return method == "append" and self._fills(node, owner)

    def _fills(self, node: cst.Call, owner: cst.BaseExpression) -> bool:
        """Whether values go into a list that outlives the body."""
        if self._is_own(owner):
            return False
        text = self._script.code(owner)
        made = any(self._is_made(arg.value) for arg in node.args)
        computes = text in self._kept and (made or self._is_own(node))
        stays = (
            not _is_emptied(self._script, self._body, text)
            if computes
            else made
        )
        if stays:  # where no tensor may be
            raise Left(f"its body keeps a tensor in `{text}`")
        return not computes

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
            self._check_kept(each.target, node.value)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._check_kept(node.target, node.value)

    def _check_kept(
        self, target: cst.BaseExpression, value: cst.BaseExpression
    ) -> None:
        if isinstance(target, cst.Name | cst.Tuple | cst.List):
            return
        held = _Held(self, self._assigned)
        value.visit(held)
        if not self._is_own(target) and (held.found or self._is_made(value)):
            where = self._script.code(target)
            raise Left(f"its body keeps a tensor in `{where}`")

    def _is_own(self, node: cst.BaseExpression) -> bool:
        return bool(names_in(self._script.code(node)) & self._assigned)

    def _is_made(self, node: cst.BaseExpression) -> bool:
        """Whether it is a call of the script's own, as `model(x)`."""
        return (
            isinstance(node, cst.Call)
            and not self.reads(node)
            and not self._is_own(node)
            and self._of(node.func) is None
            and not hasattr(builtins, dotted(node.func) or "")
            and not (
                isinstance(node.func, cst.Attribute)
                and node.func.attr.value in _KNOWN
            )
        )


class _Held(cst.CSTVisitor):
    """Whether an expression holds a tensor of the body."""

    def __init__(self, reads: _Reads, assigned: set[str]) -> None:
        self._reads = reads
        self._assigned = assigned
        self.found = False

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Attribute) and node.attr.value in _KNOWN:
            return False
        if isinstance(node, cst.Name) and node.value in self._assigned:
            self.found = True
        return not self._reads.reads(node)
