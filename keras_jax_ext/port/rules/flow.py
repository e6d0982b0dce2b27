"""Which names a piece of code reads and assigns, in its order."""

import ast
from typing import NamedTuple


class Flow(NamedTuple):
    """The names of a piece of code.

    Attributes:
        assigned: Names that get a value, in order.
        surely: Those of them that get one in every case.
        looped: Names that get one in each turn of a loop.
        before: Names that may be read before they get one.
        leaves: What leaves it: `return`, `break`... of its own.
    """

    assigned: list[str]
    surely: set[str]
    looped: set[str]
    before: set[str]
    leaves: list[str]


def flow(code: str) -> Flow:
    """Read the names of statements.

    Args:
        code: Statements, not indented.
    """
    walker = _Walker()
    surely = walker.block(ast.parse(code).body, set())
    return Flow(
        list(dict.fromkeys(walker.assigned)),
        surely,
        walker.looped,
        walker.before,
        walker.leaves,
    )


class _Walker:
    def __init__(self) -> None:
        self.assigned: list[str] = []
        self.before: set[str] = set()
        self.looped: set[str] = set()
        self.leaves: list[str] = []
        self._loops = 0

    def block(self, body: list[ast.stmt], known: set[str]) -> set[str]:
        """The names that are known to have a value behind the statements."""
        known = set(known)
        for node in body:
            known = self._statement(node, known)
        return known

    def _statement(self, node: ast.stmt, known: set[str]) -> set[str]:
        kind = type(node).__name__
        handler = getattr(self, f"_{kind}", None)
        if handler is not None:
            return handler(node, known)
        if isinstance(
            node,
            (ast.Return, ast.Global, ast.Nonlocal, ast.Delete, ast.ClassDef),
        ) or (isinstance(node, (ast.Break, ast.Continue)) and not self._loops):
            self.leaves.append(kind.lower())
        self._read(node, known)
        return known | self._store(node)

    def _read(self, node: ast.AST, known: set[str]) -> None:
        for each in ast.walk(node):
            if isinstance(each, (ast.Yield, ast.YieldFrom, ast.Await)):
                self.leaves.append(type(each).__name__.lower())
            if (
                isinstance(each, ast.Name)
                and isinstance(each.ctx, ast.Load)
                and each.id not in known
            ):
                self.before.add(each.id)

    def _store(self, node: ast.AST) -> set[str]:
        inner = {
            id(each)
            for comprehension in ast.walk(node)
            if isinstance(comprehension, ast.comprehension)
            for each in ast.walk(comprehension.target)
        }
        found = [
            each.id
            for each in ast.walk(node)
            if isinstance(each, ast.Name)
            and isinstance(each.ctx, ast.Store)
            and id(each) not in inner
        ]
        self.assigned += found
        return set(found)

    def _AugAssign(self, node: ast.AugAssign, known: set[str]) -> set[str]:
        self._read(node, known)
        if isinstance(node.target, ast.Name):
            if node.target.id not in known:
                self.before.add(node.target.id)
            self.assigned.append(node.target.id)
            return known | {node.target.id}
        return known

    def _If(self, node: ast.If, known: set[str]) -> set[str]:
        self._read(node.test, known)
        then = self.block(node.body, known)
        return then & self.block(node.orelse, known)

    def _For(self, node: ast.For, known: set[str]) -> set[str]:
        self._read(node.iter, known)
        target = self._store(node.target)
        self._loops += 1
        self.looped |= self.block(node.body, known | target) - known
        self._loops -= 1
        self.block(node.orelse, known)
        return known

    def _While(self, node: ast.While, known: set[str]) -> set[str]:
        self._read(node.test, known)
        self._loops += 1
        self.looped |= self.block(node.body, known) - known
        self._loops -= 1
        self.block(node.orelse, known)
        return known

    def _With(self, node: ast.With, known: set[str]) -> set[str]:
        for item in node.items:
            self._read(item.context_expr, known)
            if item.optional_vars is not None:
                known = known | self._store(item.optional_vars)
        return self.block(node.body, known)

    def _Try(self, node: ast.Try, known: set[str]) -> set[str]:
        for body in (node.body, node.orelse, node.finalbody):
            self.block(body, known)
        for handler in node.handlers:
            self.block(handler.body, known)
        return known

    def _FunctionDef(self, node: ast.FunctionDef, known: set[str]) -> set[str]:
        own = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
        own |= {
            n.id
            for n in ast.walk(node)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        inner = ast.Module(node.body, [])
        loaded = {
            n.id
            for n in ast.walk(inner)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
        }
        self.before |= loaded - known - own
        self.assigned.append(node.name)
        return known | {node.name}


def names_in(code: str) -> set[str]:
    """All names in an expression."""
    return {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
