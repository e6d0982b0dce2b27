"""Names through the imports and aliases of a script, to dotted names.

`tf.keras.layers.Dense`, `keras.layers.Dense`, `layers.Dense` and `Dense` all
become `keras.layers.Dense`: the name of Keras 2, whatever it is called here.
"""

import builtins
from typing import Any

from keras_jax_ext.port.rules.lookup import find

import libcst as cst
from libcst.metadata import (
    Assignment,
    BaseAssignment,
    BuiltinAssignment,
    GlobalScope,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    ScopeProvider,
)

# Where Keras 2 is found under other names.
_KERAS = (
    "tensorflow.keras",
    "tensorflow.python.keras",
    "tensorflow.compat.v1.keras",
    "tensorflow.compat.v2.keras",
    "tensorflow.contrib.keras",
    "tensorflow_core.python.keras",
    "tf_keras",
)
# Modules of TensorFlow that are those of Keras.
_ALIASES = ("optimizers", "losses", "metrics", "initializers")
# Functions of TensorFlow, and other names, that are those of Keras.
_NAMES = {
    "keras.saving.load_model": "keras.models.load_model",
    "keras.saving.save_model": "keras.models.save_model",
    "tensorflow.zeros_initializer": "keras.initializers.Zeros",
    "tensorflow.ones_initializer": "keras.initializers.Ones",
    "tensorflow.constant_initializer": "keras.initializers.Constant",
    "tensorflow.random_normal_initializer": "keras.initializers.RandomNormal",
    "tensorflow.random_uniform_initializer": "keras.initializers.RandomUniform",
    "tensorflow.initializers.zeros": "keras.initializers.Zeros",
    "tensorflow.initializers.ones": "keras.initializers.Ones",
}
ROOTS = ("keras", "tensorflow")


class Ambiguous(Exception):
    """A name that means several things where it is used."""


def normal(name: str) -> str:
    """The one dotted name for what TensorFlow and Keras 2 call variously."""
    for prefix in _KERAS:
        if name == prefix or name.startswith(f"{prefix}."):
            return normal("keras" + name[len(prefix) :])
    for prefix in ("tensorflow.compat.v2", "tensorflow.api.v2"):
        if name == prefix or name.startswith(f"{prefix}."):
            return normal("tensorflow" + name[len(prefix) :])
    if name.startswith("keras.backend.tensorflow_backend."):
        return "keras.backend." + name.split(".", 3)[3]
    if name.startswith("keras.api._v2.keras"):
        return "keras" + name.removeprefix("keras.api._v2.keras")
    if name in _NAMES:
        return _NAMES[name]
    for each in _ALIASES:
        if name == f"tensorflow.{each}" or name.startswith(
            f"tensorflow.{each}."
        ):
            return "keras" + name.removeprefix("tensorflow")
    return name


def dotted(node: cst.BaseExpression | None) -> str | None:
    """`a.b.c` of a chain of names, else `None`."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr.value}" if inner else None
    return None


def made_by(assignment: BaseAssignment) -> Any:
    """The node that gives a name its value; `None` for a builtin."""
    return getattr(assignment, "node", None)


def root_of(node: cst.CSTNode) -> cst.CSTNode:
    """The first name of a chain."""
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


class _Stars(cst.CSTVisitor):
    def __init__(self, found: list[str], others: list[str]) -> None:
        self._found = found
        self._others = others

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if isinstance(node.names, cst.ImportStar) and node.module is not None:
            module = normal(dotted(node.module) or "")
            of_keras = module.split(".")[0] in ROOTS and not node.relative
            (self._found if of_keras else self._others).append(module)


class Names:
    """What each name of a module means."""

    def __init__(self, wrapper: MetadataWrapper) -> None:
        self.scopes = wrapper.resolve(ScopeProvider)
        self.places = wrapper.resolve(PositionProvider)
        self.parents = wrapper.resolve(ParentNodeProvider)
        self._known: dict[int, str | None] = {}
        self._busy: set[int] = set()
        # Modules of which everything is imported: Keras's, and others.
        self.stars: list[str] = []
        self.other_stars: list[str] = []
        wrapper.module.visit(_Stars(self.stars, self.other_stars))

    def line(self, node: cst.CSTNode) -> int:
        """The line of a node, from 1."""
        return self.places[node].start.line if node in self.places else 1

    def of(self, node: cst.BaseExpression) -> str | None:
        """The dotted name that an expression stands for.

        Returns:
            A name that begins with one of `ROOTS` or with an imported module,
            or `None` for what is not imported.

        Raises:
            Ambiguous: If it was assigned otherwise, too.
        """
        name = dotted(node)
        if name is None:
            return None
        root = root_of(node)
        assert isinstance(root, cst.Name)
        base = self._root(root)
        return normal(base + name[len(root.value) :]) if base else None

    def quiet(self, node: cst.BaseExpression) -> str | None:
        """As `of`; `None` for what is ambiguous."""
        try:
            return self.of(node)
        except Ambiguous:
            return None

    def assignments(self, node: cst.Name) -> set[BaseAssignment]:
        """All that may have given a name its value."""
        scope = self.scopes.get(node)
        return set(scope[node.value]) if scope is not None else set()

    def is_imported(self, node: cst.Name) -> bool:
        """Whether an import may have given a name its value."""
        found = self.assignments(node)
        return any(isinstance(a, ImportAssignment) for a in found)

    def value(self, assignment: BaseAssignment) -> cst.BaseExpression | None:
        """The right side of a plain `name = value`."""
        if not isinstance(assignment, Assignment):
            return None
        node = assignment.node
        target = self.parents.get(node)
        if isinstance(target, cst.AssignTarget):
            statement = self.parents[target]
            assert isinstance(statement, cst.Assign)
            return statement.value
        if isinstance(target, cst.AnnAssign):
            return target.value
        return None

    def _root(self, node: cst.Name) -> str | None:
        if id(node) not in self._known:
            self._known[id(node)] = self._find(node)
        return self._known[id(node)]

    def _find(self, node: cst.Name) -> str | None:
        found = self.assignments(node)
        if self.is_starred(node):
            return self._starred(node.value)  # `sum` of `keras.backend`, too
        meanings = {a: self._meaning(a) for a in found}
        different = set(meanings.values())
        if len(different) <= 1:
            return different.pop() if different else None
        if not any(m and m.split(".")[0] in ROOTS for m in different):
            return None
        return _same(different) or self._latest(node, meanings)

    def _starred(self, name: str) -> str | None:
        for module in reversed(self.stars):  # the last one counts
            whole = normal(f"{module}.{name}")
            found = find(whole)
            if found.name is not None or found.value is not None:
                return whole
        return None

    def is_starred(self, node: cst.Name) -> bool:
        """Whether a name is of an import of everything."""
        return bool(self.stars) and all(
            isinstance(a, BuiltinAssignment) for a in self.assignments(node)
        )

    def may_be_starred(self, node: cst.Name) -> bool:
        """Whether a name comes from nowhere but an import of everything."""
        if not self.stars or node not in self.scopes:
            return False
        return (
            not self.assignments(node)
            and not hasattr(builtins, node.value)
            and self._starred(node.value) is None
        )

    def _latest(
        self, node: cst.Name, meanings: dict[BaseAssignment, str | None]
    ) -> str | None:
        """The meaning by position, where the order of lines decides."""
        scope = self.scopes.get(node)
        places = {a: self._place(a) for a in meanings}
        here = self.line(node)
        before = [a for a in meanings if places[a] <= here]
        own = {a.scope for a in meanings}
        if own != {scope} or not before or self._in_a_loop(node):
            raise Ambiguous(node.value)
        # `mnist = mnist.load_data()`: the right side comes first.
        last = max(before, key=lambda a: places[a])
        if self._is_within(node, last):
            before.remove(last)
            last = max(before, key=lambda a: places[a], default=last)
        if not self._at_top(last):
            raise Ambiguous(node.value)
        return meanings[last]

    def _place(self, assignment: BaseAssignment) -> int:
        node = made_by(assignment)
        return self.line(node) if node is not None else 0

    def _is_within(self, node: cst.CSTNode, assignment: BaseAssignment) -> bool:
        """Whether a node is in the statement that makes an assignment."""
        made: cst.CSTNode | None = made_by(assignment)
        while made is not None and not isinstance(
            made, (cst.Assign, cst.AnnAssign)
        ):
            made = self.parents.get(made)
        return made is not None and any(each is made for each in self.up(node))

    def up(self, node: cst.CSTNode) -> list[cst.CSTNode]:
        """A node and all that it is in, inner ones first."""
        found = [node]
        while (outer := self.parents.get(found[-1])) is not None:
            found.append(outer)
        return found

    def _in_a_loop(self, node: cst.CSTNode) -> bool:
        return any(isinstance(n, (cst.For, cst.While)) for n in self.up(node))

    def _at_top(self, assignment: BaseAssignment) -> bool:
        """Whether an assignment is surely made: in no branch and no loop."""
        node = made_by(assignment)
        if node is None:
            return False
        inner = (cst.If, cst.For, cst.While, cst.Try)
        for each in self.up(node)[1:]:
            if isinstance(each, inner):
                return False
            if isinstance(each, (cst.FunctionDef, cst.ClassDef)):
                # `global tf` in a function: nobody knows when it runs.
                return not isinstance(assignment.scope, GlobalScope)
        return True

    def _meaning(self, assignment: BaseAssignment) -> str | None:
        if isinstance(assignment, ImportAssignment):
            return imported(assignment)
        value = self.value(assignment)
        if value is None or dotted(value) is None or id(value) in self._busy:
            return None
        self._busy.add(id(value))
        try:
            return self.quiet(value)
        finally:
            self._busy.discard(id(value))


def _same(meanings: set[str | None]) -> str | None:
    """The one thing that several imports bring by now, if it is one."""
    now = {find(m).name if m else None for m in meanings}
    if len(now) > 1 or None in now:
        return None
    return min(meanings - {None}, key=lambda m: (m not in now, m or ""))


def imported(assignment: ImportAssignment) -> str | None:
    """The dotted name that an import binds."""
    node = assignment.node
    name = assignment.name
    if isinstance(node, cst.Import):
        for alias in node.names:
            whole = dotted(alias.name)
            if alias.asname is not None:
                if dotted(alias.asname.name) == name:
                    return whole and normal(whole)
            elif whole and whole.split(".")[0] == name.split(".")[0]:
                return normal(whole.split(".")[0])
        return None
    assert isinstance(node, cst.ImportFrom)
    if node.relative or isinstance(node.names, cst.ImportStar):
        return None
    for alias in node.names:
        bound = dotted(alias.asname.name) if alias.asname else alias.name.value
        if bound == name:
            return normal(f"{dotted(node.module)}.{alias.name.value}")
    return None
