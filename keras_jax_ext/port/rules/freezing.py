"""`trainable = False` behind `compile`: in Keras 2 that trains as before."""

from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules.kinds import base_kind
from keras_jax_ext.port.rules.operations import tidy
from keras_jax_ext.port.script import Script

import libcst as cst

_COMPILE = "keras_jax_ext.keras2.compile"
_NO_MODELS = ("re", "regex", "super()", "builtins")  # `re.compile`


class Freezing:
    """Where a script says what is trainable, and where it compiles."""

    def __init__(self, script: Script) -> None:
        self._script = script
        finder = _Finder(script)
        script.module.visit(finder)
        self._set = finder.set
        self._compiled = finder.compiled

    def rewrite(self, node: cst.Call, updated: cst.Call) -> cst.Call | None:
        """A call of `compile` that must remember what was trainable."""
        if node not in self._compiled or not any(
            self._may_follow(each, node) for each in self._set
        ):
            return None
        assert isinstance(updated.func, cst.Attribute)
        target = self._script.target(_COMPILE)
        self._script.done(node, f"`{target}`: it trains what is trainable here")
        owner = cst.Arg(updated.func.value)
        return updated.with_changes(
            func=cst.parse_expression(target),
            args=tidy([owner, *updated.args]),
        )

    def _may_follow(self, assign: cst.CSTNode, node: cst.Call) -> bool:
        """Whether it may be set after a `compile`, and none comes after it."""
        script = self._script
        owner = script.within(assign, cst.FunctionDef)
        if owner is not script.within(node, cst.FunctionDef):
            return owner is None or self._is_given(assign, owner)
        line = script.names.line(assign)
        loop = script.within(node, (cst.For, cst.While))
        if line < script.names.line(node) and (
            loop is None or loop not in script.names.up(assign)
        ):
            return False
        receiver = _receiver(script, node)
        return not any(
            each is not node  # in a loop it comes before the next turn's
            and _receiver(script, each) == receiver
            and script.within(each, cst.FunctionDef) is owner
            and script.names.line(each) > line
            for each in self._compiled
        )

    def _is_given(self, assign, owner) -> bool:
        """Whether what is frozen comes from outside of its function."""
        script = self._script
        kind = script.within(owner, cst.ClassDef)
        if isinstance(kind, cst.ClassDef) and base_kind(script, kind):
            return False
        root = _root(assign.targets[0].target)
        loop = script.within(assign, cst.For)
        name = script.code(root)
        if isinstance(loop, cst.For) and script.code(loop.target) == name:
            root = _root(loop.iter)
        if not isinstance(root, cst.Name):
            return True
        made = [made_by(each) for each in script.names.assignments(root)]
        inside = [
            m
            for m in made
            if m is not None
            and not isinstance(m, cst.Param)
            and script.within(m, cst.FunctionDef) is owner
        ]
        return not inside


class _Finder(cst.CSTVisitor):
    def __init__(self, script: Script) -> None:
        self._script = script
        self.set: list[cst.Assign] = []
        self.compiled: list[cst.Call] = []

    def visit_Assign(self, node: cst.Assign) -> None:
        target = node.targets[0].target
        if (
            isinstance(target, cst.Attribute)
            and target.attr.value == "trainable"
        ):
            self.set.append(node)

    def visit_Call(self, node: cst.Call) -> None:
        if (
            isinstance(node.func, cst.Attribute)
            and node.func.attr.value == "compile"
            and _receiver(self._script, node) not in _NO_MODELS
        ):
            self.compiled.append(node)


def _receiver(script: Script, node: cst.Call) -> str:
    assert isinstance(node.func, cst.Attribute)
    return script.code(node.func.value)


def _root(node: cst.BaseExpression) -> cst.BaseExpression:
    """What an expression of attributes, items and calls begins with."""
    while isinstance(node, (cst.Attribute, cst.Subscript, cst.Call)):
        node = node.func if isinstance(node, cst.Call) else node.value
    return node
