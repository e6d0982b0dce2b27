"""Where a tape and the names of its body are used."""

import itertools
import textwrap
from typing import Any

from keras_jax_ext.port import visiting
from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules.flow import Flow, flow, names_in
from keras_jax_ext.port.script import Script

import libcst as cst


class Left(Exception):
    """Why a tape is left as it is."""


class Binder(cst.CSTVisitor):
    """Whether a statement makes another tape of the same name."""

    def __init__(self, script: Script, tapes: list[str], owner) -> None:
        self._script = script
        self._tapes = tapes
        self._owner = owner
        self.found = False

    def visit_AsName(self, node: cst.AsName) -> None:
        if isinstance(node.name, cst.Name) and node.name.value in self._tapes:
            self.found |= owner_of(self._script, node) is self._owner


class Uses(visiting.Names):
    """The uses of some names, and the methods that are called of them."""

    def __init__(self, script: Script, names: list[str], owner) -> None:
        self._script = script
        self._names = names
        self._owner = owner
        self.found: list[tuple[cst.Name, str, Any]] = []

    def visit_Name(self, node: cst.Name) -> None:
        if node.value not in self._names or self._is_of_another(node):
            return
        parents = self._script.names.parents
        parent = parents[node]
        if isinstance(parent, cst.AsName):
            return
        if isinstance(parent, cst.Attribute):
            call = parents[parent]
            if isinstance(call, cst.Call) and call.func is parent:
                self.found.append((node, parent.attr.value, call))
                return
        self.found.append((node, "", parent))

    def _is_of_another(self, node: cst.Name) -> bool:
        return is_of_another(self._script, node, self._owner)


def is_of_another(script: Script, node: cst.Name, owner) -> bool:
    """Whether a name is one of another function's own."""
    if owner_of(script, node) is owner:
        return False
    made = [made_by(a) for a in script.names.assignments(node)]
    return all(m is not None and owner_of(script, m) is not owner for m in made)


def watched_names(script, node, tapes, removed) -> list[str]:
    """Names of what is watched; the lines are left out."""
    uses = Uses(script, tapes, owner_of(script, node))
    node.body.visit(uses)
    found: list[str] = []
    for _, method, call in uses.found:
        if method == "gradient":
            raise Left("its gradient is taken within its own body")
        if method != "watch" or len(call.args) != 1:
            raise Left(f"`tape.{method or '...'}` in its body")
        line = script.statement(call)
        if not (
            isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1
        ):
            raise Left("`tape.watch` is no line of its own")
        removed.append(line)
        value = call.args[0].value
        elements = (
            [e.value for e in value.elements]
            if isinstance(value, (cst.List, cst.Tuple))
            else [value]
        )
        found += [e.value for e in elements if isinstance(e, cst.Name)]
    return found


def gradient_calls(script, node, behind, tapes, removed) -> list[cst.Call]:
    uses = Uses(script, tapes, owner_of(script, node))
    for statement in behind:
        statement.visit(uses)
    calls = []
    for _, method, call in uses.found:
        if method == "gradient":
            if script.within(call, cst.FunctionDef) is not script.within(
                node, cst.FunctionDef
            ) or script.within(call, cst.Lambda):
                raise Left("its gradient is taken in another function")
            calls.append(call)
            continue
        line = script.statement(call)
        if (
            isinstance(line, cst.SimpleStatementLine)
            and len(line.body) == 1
            and isinstance(line.body[0], cst.Del)
        ):
            removed.append(line)
            continue
        raise Left(f"`tape.{method or '...'}` behind it")
    if not calls:
        raise Left("no gradient is taken behind it, in its block")
    return calls


def owner_of(script: Script, node: cst.CSTNode) -> cst.CSTNode:
    return script.within(node, cst.FunctionDef) or script.module


class _Loads(cst.CSTVisitor):
    """Names read in a piece of code, outside of one part of it."""

    def __init__(self, script: Script, without: cst.CSTNode) -> None:
        self._script = script
        self._without = without
        self._owner = owner_of(script, without)
        self.found: list[cst.Name] = []
        self.stored: set[str] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if node is self._without:
            return False
        return super().on_visit(node)

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False

    def visit_Param(self, node: cst.Param) -> None:
        self._store(node.name)

    def _store(self, node: cst.Name) -> None:
        if owner_of(self._script, node) is self._owner:
            self.stored.add(node.value)

    def visit_Name(self, node: cst.Name) -> None:
        parent = self._script.names.parents.get(node)
        if isinstance(parent, cst.Arg) and parent.keyword is node:
            return
        if isinstance(parent, cst.AssignTarget) or (
            isinstance(parent, (cst.For, cst.CompFor)) and parent.target is node
        ):
            self._store(node)
            return
        up = self._script.names.up(node)
        for inner, outer in itertools.pairwise(up):
            if isinstance(outer, (cst.Tuple, cst.List, cst.Element)):
                continue
            if isinstance(outer, cst.AssignTarget) or (
                isinstance(outer, cst.For) and outer.target is inner
            ):
                self._store(node)
                return
            break
        if not isinstance(parent, cst.Param):
            self.found.append(node)


class _Declared(cst.CSTVisitor):
    """The names that a function says are not its own."""

    def __init__(self, script: Script, owner: cst.CSTNode) -> None:
        self._script = script
        self._owner = owner
        self.found: set[str] = set()

    def visit_NameItem(self, node: cst.NameItem) -> None:
        if owner_of(self._script, node) is self._owner:
            self.found.add(node.name.value)


def check_own(script: Script, node: cst.CSTNode, assigned: list[str]) -> None:
    """Refuse a body that assigns a `global` or `nonlocal` name."""
    owner = owner_of(script, node)
    declared = _Declared(script, owner)
    owner.visit(declared)
    if others := declared.found & {*assigned}:
        raise Left(f"its body assigns `{min(others)}` of another function")


def live(
    script: Script, node: cst.With, assigned: list[str], names: Flow
) -> list[str]:
    """The names of a body that are read outside of it, or in its next run."""
    owner = owner_of(script, node)
    loads = _Loads(script, node.body)
    owner.visit(loads)
    end = script.names.places[node].end.line
    loop = script.within(node, (cst.For, cst.While))
    live = names.before & loads.stored & _carried(script, node, assigned)
    for name in loads.found:
        inside_loop = loop is not None and any(
            each is loop for each in script.names.up(name)
        )
        elsewhere = owner is not owner_of(script, name)
        if is_of_another(script, name, owner):
            continue
        if script.names.line(name) > end or inside_loop or elsewhere:
            live.add(name.value)
    return [n for n in assigned if n in live]


def _carried(script: Script, node: cst.With, assigned: list[str]) -> set[str]:
    """The names that have their values of the turn before, in a loop."""
    loop: Any = script.within(node, (cst.For, cst.While))
    if loop is None:
        return set()
    found = set(assigned)
    if isinstance(loop, cst.For):
        found -= names_in(script.code(loop.target))
    for statement in loop.body.body:
        if statement in script.names.up(node):
            break
        code = textwrap.dedent(cst.Module([statement]).code)
        found -= flow(code).surely
    return found


def parameters_of(script, node, names: Flow, assigned, outs) -> list[str]:
    """Names that the body reads before it assigns them."""
    needed = [
        n
        for n in assigned
        if n in names.before or (n in outs and n not in names.surely)
    ]
    loads = _Loads(script, node.body)
    owner_of(script, node).visit(loads)
    # What has no value before the body either is its own.
    missing = {n for n in needed if n not in loads.stored}
    without = missing - names.looped - names.surely
    if without:
        raise Left(f"`{min(without)}` may have no value in its body")
    return [n for n in needed if n not in missing]
