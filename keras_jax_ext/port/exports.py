"""What the installed Keras offers, read from its files: it is not imported."""

import ast
import functools
import importlib.util
from pathlib import Path
from typing import NamedTuple


class Signature(NamedTuple):
    """The arguments of a function, or of the constructor of a class.

    Attributes:
        names: Tuple of argument names, in order.
        open: Whether further keywords are taken.
        places: How many of them are taken by position, or `None` for any.
    """

    names: tuple[str, ...]
    open: bool
    places: int | None


@functools.cache
def folder() -> Path:
    """The folder of the installed Keras."""
    spec = importlib.util.find_spec("keras")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "Names are checked against the installed Keras. Received: no "
            "package `keras`. Install it: `pip install keras`."
        )
    return Path(spec.origin).parent


@functools.cache
def _members(module: str) -> dict[str, str]:
    """Public names of a module, and where each one is defined."""
    path = _file(module)
    if path is None:
        return {}
    tree = ast.parse(path.read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                found[name] = f"{node.module}.{alias.name}"
    return found


def _file(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != "keras":
        return None
    path = folder().joinpath(*parts[1:])
    for each in (path / "__init__.py", path.with_suffix(".py")):
        if each.is_file():
            return each
    return None


def is_module(name: str) -> bool:
    """Whether a dotted name is a public module of Keras."""
    return ".src" not in name and _file(name) is not None


def exists(name: str) -> bool:
    """Whether a dotted name is public in Keras, as a module or a member."""
    if name == "keras.__version__" or is_module(name):
        return True
    module, _, member = name.rpartition(".")
    return is_module(module) and member in _members(module)


@functools.cache
def signature(name: str) -> Signature | None:
    """The arguments of a public name, or `None` if they are not known."""
    module, _, member = name.rpartition(".")
    origin = _members(module).get(member) if is_module(module) else None
    return _signature(origin, 0) if origin else None


@functools.cache
def _definitions(module: str) -> tuple[dict[str, ast.stmt], dict[str, str]]:
    path = _file(module)
    if path is None:
        return {}, {}
    tree = ast.parse(path.read_text())
    defined: dict[str, ast.stmt] = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    return defined, _members(module)


def _signature(origin: str, depth: int) -> Signature | None:
    module, _, member = origin.rpartition(".")
    defined, imported = _definitions(module)
    node = defined.get(member)
    if node is None:
        further = imported.get(member)
        return _signature(further, depth + 1) if further and depth < 6 else None
    if isinstance(node, ast.FunctionDef):
        return _of(node.args, 0)
    assert isinstance(node, ast.ClassDef)
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return _of(each.args, 1)
    if not node.bases or depth > 6:
        return None
    base = ast.unparse(node.bases[0])
    if base in defined:
        return _signature(f"{module}.{base}", depth + 1)
    root, _, rest = base.partition(".")
    if root in imported:
        where = imported[root] + (f".{rest}" if rest else "")
        return _signature(where, depth + 1)
    return None


def _of(args: ast.arguments, skipped: int) -> Signature:
    names = [a.arg for a in [*args.posonlyargs, *args.args]][skipped:]
    places = None if args.vararg is not None else len(names)
    names += [a.arg for a in args.kwonlyargs]
    return Signature(tuple(names), args.kwarg is not None, places)
