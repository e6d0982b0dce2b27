"""The floors: a module imports lower ones, and one folder knows Keras."""

import ast
import inspect
import textwrap
from pathlib import Path

import keras
import pytest

PACKAGE = Path(__file__).parent.parent / "keras_jax_ext"
# A folder, or a module beside the folders, and the floor that it stands on.
FLOORS = {
    "_keras": 0,
    "_by_name": 0,
    "_disk": 0,
    "_xla": 0,
    "_inline": 1,
    "_old_files": 1,
    "_loop": 1,
    "_optax": 1,
    "losses": 1,
    "metrics": 1,
    "_seeing": 2,
    "optimizers": 2,
    "optax": 2,
    "transforms": 2,
    "_saving": 3,
    "_training": 3,
    "callbacks": 3,
    "layers": 4,
    "models": 5,
    "ensembles": 6,
    "data": 6,
    "keras2": 6,
    "port": 8,
    "__init__": 7,
}
# Lines of code of a file, without its comments and docstrings.
MOST = 300
SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def floor_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Dotted names that a file imports, function-local ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    """The modules of the package that a file imports."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "keras_jax_ext" and len(parts) > 1:
            yield parts[1:]


def upward_imports(path):
    own = floor_of(path)
    for parts in own_imports(path):
        other = parts[0]
        if other in FLOORS and other != own and FLOORS[other] >= FLOORS[own]:
            yield f"{own} imports {other}"


def within(folder):
    """Each module of a folder, and those of the same folder it imports."""
    names = {name_of(p): p for p in SOURCES if floor_of(p) == folder}
    return {
        name: {
            found
            for parts in own_imports(path)
            for found in (".".join(parts), ".".join(parts[:-1]))
            if found in names and found != name
        }
        for name, path in names.items()
    }


def in_a_circle(graph):
    """Modules left when those that import none of the rest are taken away."""
    left = dict(graph)
    while free := [n for n, found in left.items() if not found & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def lines_of_code(source):
    tree = ast.parse(source)
    taken = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not is_text(node):
            taken.add(node.lineno)
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.With)):
                taken.update(range(node.lineno, first_inner(node)))
    return len(taken)


def first_inner(node):
    """The line behind a statement, or of the first one that it holds."""
    inner = [n.lineno for n in ast.walk(node) if isinstance(n, ast.stmt)]
    return min([n for n in inner if n > node.lineno], default=end(node))


def end(node):
    return node.end_lineno + 1


def is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_imports_only_lower_floors(path):
    assert floor_of(path) in FLOORS, "give the module a floor"
    assert list(upward_imports(path)) == []


@pytest.mark.parametrize("folder", sorted({floor_of(p) for p in SOURCES}))
def test_no_modules_of_a_folder_import_each_other(folder):
    assert in_a_circle(within(folder)) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_one_folder_knows_the_private_modules_of_keras(path):
    private = [n for n in imports(path) if n.startswith("keras.src")]
    assert floor_of(path) == "_keras" or private == []


def classes_of_keras():
    """The classes of Keras that ours derive from, or are given."""
    found = [keras.Model, keras.Sequential, keras.losses.Loss, keras.Metric]
    found += [keras.optimizers.Optimizer, keras.Variable]
    found += [c for c in vars(keras.callbacks).values() if inspect.isclass(c)]
    every = {base for cls in found for base in cls.__mro__}
    return [cls for cls in every if cls.__module__.startswith("keras.")]


def is_private(name):
    return name.startswith("_") and name != "_" and not name.startswith("__")


def private_names(cls):
    """What a class defines, sets or takes under an underscore."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:  # a nightly makes `keras.Variable` by a call
        source = ""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(
            node.ctx, ast.Store
        ):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg


@pytest.fixture(scope="module")
def private():
    """Every underscore name of Keras's classes."""
    every = (n for cls in classes_of_keras() for n in private_names(cls))
    return set(filter(is_private, every))


def used_names(source):
    """Names of attributes, methods, arguments, and entries of `vars(...)`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield from (n.name for n in node.body if hasattr(n, "name"))
        elif isinstance(node, ast.keyword):
            yield node.arg
        elif isinstance(node, ast.Constant):
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_one_folder_knows_the_private_names_of_keras(path, private):
    if floor_of(path) != "_keras":
        assert private & set(used_names(path.read_text())) == set()


def test_the_check_of_private_names_sees_each_form(private):
    assert {"_value", "_symbolic_build", "_jax_state", "_model"} <= private
    for form in (
        "model._symbolic_build()",
        "class A(keras.Model):\n    def _symbolic_build(self): ...",
        "vars(model)['_symbolic_build']",
        "f(_symbolic_build=True)",
    ):
        assert "_symbolic_build" in set(used_names(form))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_holds_one_idea(path):
    assert lines_of_code(path.read_text()) <= MOST


def test_the_floor_check_sees_a_local_upward_import(monkeypatch):
    source = "def f():\n    from keras_jax_ext import models\n"
    monkeypatch.setattr(Path, "read_text", lambda self: source)
    found = list(upward_imports(PACKAGE / "_inline" / "scope.py"))
    assert found == ["_inline imports models"]


def test_the_circle_check_sees_a_circle():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert in_a_circle(graph) == ["a", "b", "c", "d"]
    assert in_a_circle({"a": {"b"}, "b": set()}) == []
