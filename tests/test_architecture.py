"""The floors: a module imports only lower ones, and one file knows Keras."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_jax_ext"
FLOORS = {
    "_keras": 0,
    "_injection": 0,
    "_mirror": 0,
    "_entries": 0,
    "_validation": 0,
    "_parts": 0,
    "_report": 0,
    "_calls": 0,
    "_arguments": 0.2,
    "_frame": 0.4,
    "_scope": 0.6,
    "_abstract": 0.2,
    "_lost": 0.6,
    "_build": 0.8,
    "_files": 0.8,
    "_guard": 1,
    "_turns": 0,
    "_memory": 0,
    "_steps": 1.2,
    "_watching": 1.3,
    "_opening": 2,
    "_interrupts": 0,
    "_convolutions": 0,
    "_products": 0,
    "_for_cpu": 0.5,
    "_faults": 0,
    "_loop": 1,
    "_pieces": 0.9,
    "_data": 1.2,
    "_run": 1.4,
    "_stream": 1.4,
    "_notes": 1,
    "_fused": 2.8,
    "_summary": 1,
    "_optax": 1,
    "layers": 2,
    "losses": 2,
    "metrics": 2,
    "optimizers": 2,
    "optax": 2,
    "callbacks": 2.2,
    "_specs": 2.5,
    "_compiled": 2.7,
    "_compile": 3,
    "_optax_step": 3,
    "_trainer": 3.5,
    "_saved": 3.5,
    "models": 4,
    "transforms": 5,
    "__init__": 6,
}
BUDGETS = {
    "_keras": 1450,
    "_injection": 160,
    "_mirror": 40,
    "_entries": 50,
    "_validation": 70,
    "_parts": 120,
    "_report": 230,
    "_calls": 90,
    "_arguments": 190,
    "_frame": 320,
    "_scope": 250,
    "_abstract": 180,
    "_lost": 130,
    "_build": 250,
    "_files": 210,
    "_guard": 160,
    "_turns": 110,
    "_memory": 60,
    "_steps": 90,
    "_watching": 220,
    "_opening": 120,
    "_loop": 250,
    "_data": 290,
    "_interrupts": 80,
    "_convolutions": 60,
    "_products": 80,
    "_for_cpu": 110,
    "_faults": 70,
    "_run": 300,
    "_stream": 250,
    "_pieces": 150,
    "_notes": 70,
    "_fused": 350,
    "_summary": 600,
    "layers": 290,
    "_optax": 1300,
    "losses": 470,
    "metrics": 260,
    "optimizers": 830,
    "optax": 50,
    "callbacks": 1020,
    "_specs": 170,
    "_compiled": 260,
    "_compile": 400,
    "_optax_step": 150,
    "_trainer": 480,
    "_saved": 180,
    "models": 330,
    "transforms": 300,
    "__init__": 80,
}


def module_of(path):
    """The floor's name of a file: a folder counts as one module."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path):
    """Dotted names that a file imports, function-local ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward_imports(path):
    """Imports within the package that do not point to a lower floor."""
    own = module_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "keras_jax_ext" or len(parts) < 2:
            continue
        other = parts[1]
        if other in FLOORS and other != own and FLOORS[other] >= FLOORS[own]:
            yield f"{own} imports {other}"


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_a_module_imports_only_lower_floors(path):
    assert module_of(path) in FLOORS, "give the module a floor"
    assert list(upward_imports(path)) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_one_file_knows_the_private_names_of_keras(path):
    private = [n for n in imports(path) if n.startswith("keras.src")]
    assert module_of(path) == "_keras" or private == []


@pytest.mark.parametrize("module", sorted({module_of(p) for p in SOURCES}))
def test_a_module_keeps_its_budget_of_lines(module):
    files = [p for p in SOURCES if module_of(p) == module]
    lines = sum(len(p.read_text().splitlines()) for p in files)
    assert lines <= BUDGETS[module]


def test_the_floor_check_sees_a_local_upward_import(tmp_path, monkeypatch):
    bad = PACKAGE / "_scope.py"
    source = "def f():\n    from keras_jax_ext import models\n"
    monkeypatch.setattr(Path, "read_text", lambda self: source)
    assert list(upward_imports(bad)) == ["_scope imports models"]
