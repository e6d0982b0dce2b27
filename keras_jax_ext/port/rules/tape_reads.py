"""Values that the body of a tape reads: NumPy's, to print or to count by."""

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
    finder = _Reads(script, assigned)
    body.visit(finder)
    return finder.found


class _Reads(visiting.Names):
    def __init__(self, script: Script, assigned: list[str]) -> None:
        self._script = script
        self._assigned = set(assigned)
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
        return method == "append" and not (
            names_in(self._script.code(owner)) & self._assigned
        )

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
