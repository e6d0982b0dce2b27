"""What a module offers to others says the types that it takes and returns."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_jax_ext"
# Files and folders whose every public function is typed.
TYPED = [
    "__init__.py",
    "layers.py",
    "losses.py",
    "keras2",
    "metrics.py",
    "models.py",
    "optax.py",
    "callbacks",
    "data",
    "optimizers",
    "_by_name",
    "_disk",
    "_inline",
    "_keras",
    "_loop",
    "_optax",
    "_saving",
    "_seeing",
    "_training",
    "_xla",
    "ensembles",
    "port",
    "transforms",
]


def files():
    """Every file that `TYPED` names."""
    paths = [PACKAGE / name for name in TYPED]
    return [f for p in paths for f in sorted(p.glob("*.py")) or [p]]


def is_public(node):
    name = node.name
    return not name.startswith("_") or name.endswith("__")


def functions(tree):
    """Public functions and methods, with the arguments that need a type."""
    for node in tree.body:
        if isinstance(node, ast.If):
            yield from functions(ast.Module(node.body + node.orelse, []))
        elif isinstance(node, ast.FunctionDef) and is_public(node):
            yield node.name, node, arguments(node)
        elif isinstance(node, ast.ClassDef) and is_public(node):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and is_public(method):
                    name = f"{node.name}.{method.name}"
                    yield name, method, arguments(method)[1:]


def arguments(function):
    given = function.args
    starred = [a for a in (given.vararg, given.kwarg) if a is not None]
    return given.posonlyargs + given.args + given.kwonlyargs + starred


def untyped(tree):
    """What lacks a type: `function(argument)`, or `function` for a result."""
    for name, function, takes in functions(tree):
        yield from (f"{name}({a.arg})" for a in takes if a.annotation is None)
        if function.returns is None:
            yield name


@pytest.mark.parametrize("path", files(), ids=lambda p: p.stem)
def test_every_public_function_is_typed(path):
    assert list(untyped(ast.parse(path.read_text()))) == []


def test_a_missing_type_is_seen():
    source = """
def f(x, *, y: int): ...
def _private(x): ...
class A:
    def __init__(self, z, **options: int) -> None: ...
    def _private(self, x): ...
    def g(self): ...
if TYPE_CHECKING:
    def h(*names) -> None: ...
"""
    found = ["f(x)", "f", "A.__init__(z)", "A.g", "h(names)"]
    assert list(untyped(ast.parse(source))) == found


def test_type_checkers_may_read_the_package():
    assert (PACKAGE / "py.typed").is_file()
