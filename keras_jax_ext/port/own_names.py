"""Values that a script keeps as attributes of a module: `tf.model = ...`."""

import ast
import builtins
import re
from typing import Any, NamedTuple

from keras_jax_ext.port.findings import DONE, Finding
from keras_jax_ext.port.rules import imports
from keras_jax_ext.port.rules.lookup import find

import libcst as cst

_GIVEN = re.compile(r"^\w+\.\w+\s*=[^=]", re.MULTILINE)


def freed(text: str) -> tuple[str, list[Finding]]:
    """A script whose own attributes of TensorFlow are plain names.

    The module goes, and they with it. Lines stay where they are.

    Args:
        text: A script.

    Returns:
        The new text, and what is said of it.
    """
    if not _GIVEN.search(text):
        return text, []
    tree = ast.parse(text)
    taken = _names(tree)
    names, said = {}, []
    for whole, uses in _attributes(tree, _modules(tree)).items():
        if not uses.is_own(tree):
            continue
        alias, _, attr = whole.partition(".")
        name = attr
        while name in taken or hasattr(builtins, name):
            name = f"{alias}_{name}"
        taken.add(name)
        names[whole] = name
        said.append(Finding(uses.first.lineno, DONE, whole, f"`{name}`"))
    if not names:
        return text, []
    return cst.parse_module(text).visit(_Renamed(names)).code, said


class _Uses(NamedTuple):
    """Where `module.name` stands."""

    places: list[ast.Attribute]

    @property
    def first(self) -> ast.Attribute:
        return min(self.places, key=lambda p: (p.lineno, p.col_offset))

    def is_own(self, tree: ast.Module) -> bool:
        """Whether it is surely given before it is read, and at the top."""
        stores = [p for p in self.places if not isinstance(p.ctx, ast.Load)]
        top = [
            target
            for each in tree.body
            if isinstance(each, ast.Assign)
            for target in each.targets
        ]
        # A name that a function assigns would be its own one.
        inner = {
            id(node)
            for each in ast.walk(tree)
            if isinstance(each, (ast.FunctionDef, ast.ClassDef, ast.Lambda))
            for node in ast.walk(each)
        }
        return any(self.first is each for each in top) and not any(
            isinstance(p.ctx, ast.Del) or id(p) in inner for p in stores
        )


def _modules(tree: ast.Module) -> dict[str, str]:
    """The names of imports of TensorFlow and Keras, and what they mean."""
    found = {}
    others = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                if root in imports.ROOTS and (
                    alias.asname or root == alias.name
                ):
                    found[alias.asname or root] = alias.name
        elif isinstance(node, ast.arg):
            others.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            others.add(node.id)
    return {name: of for name, of in found.items() if name not in others}


def _attributes(tree: ast.Module, modules: dict[str, str]) -> dict[str, _Uses]:
    """The attributes of modules that Keras and TensorFlow do not have."""
    found: dict[str, _Uses] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if not isinstance(owner, ast.Name) or owner.id not in modules:
            continue
        known = find(f"{modules[owner.id]}.{node.attr}")
        if known.name is None and known.value is None:
            key = f"{owner.id}.{node.attr}"
            found.setdefault(key, _Uses([])).places.append(node)
    return found


def _names(tree: ast.Module) -> set[str]:
    """Every name of a script."""
    found: set[str] = set()
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.add(value.split(".")[0])
    return found


class _Renamed(cst.CSTTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def leave_Attribute(self, original: Any, updated: Any) -> Any:
        if not isinstance(original.value, cst.Name):
            return updated
        name = self._names.get(f"{original.value.value}.{original.attr.value}")
        if name is None:
            return updated
        return cst.Name(name, lpar=updated.lpar, rpar=updated.rpar)
