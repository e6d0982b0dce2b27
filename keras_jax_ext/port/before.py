"""What a script is before it is ported: old, new, or ported already."""

import ast
import re

from keras_jax_ext.port import exports
from keras_jax_ext.port.findings import TODO, Finding
from keras_jax_ext.port.importing import FIRST
from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules import arguments, imports, unseen
from keras_jax_ext.port.script import BY_HAND, Script

import libcst as cst

NOTHING = "it uses neither TensorFlow nor Keras: nothing to do"
ALREADY = "it runs on Keras 3 already: nothing to do"
# Modules that no Keras 2 has. (`keras.saving` came with 2.13.)
_NEW = ("ops", "random", "config", "distribution", "dtype_policies", "tree")
# Keras 2 had the variable, too, for TensorFlow and Theano.
_BACKEND = re.compile(
    r"KERAS_BACKEND[\"']\]?\s*[=,]\s*[\"'](jax|torch|openvino)\b"
)
# Methods that only models of Keras 2 have.
_METHODS = (
    "evaluate_generator",
    "fit_generator",
    "predict_classes",
    "predict_generator",
)
_OF_TENSORFLOW = {*imports.ROOTS} - {"keras"}


def note(script: Script) -> str:
    """Why nothing is to do, or an empty string."""
    used = _Used(script)
    script.module.visit(used)
    if not used.roots & {*imports.ROOTS, *imports.COMPANIONS}:
        return NOTHING
    return ALREADY if _is_new(script, used) else ""


def _is_new(script: Script, used: "_Used") -> bool:
    """Whether a script shows that it is of Keras 3, and nothing else."""
    old = {name for name, recipe in imports.COMPANIONS.items() if recipe}
    if used.roots & {*_OF_TENSORFLOW, *old} or used.has_old_arguments:
        return False
    new = {f"keras.{name}" for name in _NEW}
    shown = (
        any(".".join(name.split(".")[:2]) in new for name in used.names)
        or "keras_jax_ext" in used.roots
        or _BACKEND.search(script.text) is not None
    )
    return shown and all(map(_is_there, used.names))


def _is_there(name: str) -> bool:
    """Whether Keras 3 has a name, or the object that it is an attribute of."""
    if name.split(".")[0] != "keras" or exports.exists(name):
        return True
    owner = name.rpartition(".")[0]
    while owner and not exports.exists(owner):
        owner = owner.rpartition(".")[0]
    return not exports.is_module(owner)


class _Used(cst.CSTVisitor):
    """The names of packages that a script uses, and their arguments."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.names: set[str] = set()
        self.has_old_arguments = False

    @property
    def roots(self) -> set[str]:
        return {name.split(".")[0] for name in self.names}

    def visit_Import(self, node: cst.Import) -> bool:
        self.names |= {dotted(alias.name) or "" for alias in node.names}
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        module = dotted(node.module) if not node.relative else None
        if isinstance(node.names, cst.ImportStar):
            self.names.add(module or "")
        elif module:
            self.names |= {f"{module}.{a.evaluated_name}" for a in node.names}
        if unseen.from_elsewhere(node):
            self.names.add("tensorflow")
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        name = self._script.names.quiet(node)
        if name is None:
            node.value.visit(self)
        else:
            self.names.add(name)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        if unseen.is_unbound(self._script, node) or unseen.of_a_star(
            self._script, node
        ):
            self.names.add("tensorflow")

    def visit_Call(self, node: cst.Call) -> None:
        if name := unseen.imported(self._script, node):
            self.names.add(name)
        method = node.func
        if isinstance(method, cst.Attribute) and method.attr.value in _METHODS:
            self.names.add("tensorflow")  # of a model from another file
        name = dotted(node.func) and self._script.names.quiet(node.func)
        if name and arguments.unknown(name, node.args):
            self.has_old_arguments = True


def earlier(script: Script) -> list[Finding] | None:
    """What an earlier run has left; `None` if there was none."""
    text = script.text
    if FIRST not in text:
        return None
    found = []
    for place, line in enumerate(text.splitlines(), 1):
        before, mark, rest = line.partition(f"# {BY_HAND}")
        if mark and not before.strip():
            reason, _, recipe = rest.partition(". ")
            found.append(Finding(place, TODO, "an earlier run", reason, recipe))
    return found or still_imported(text)


def still_imported(code: str) -> list[Finding]:
    """The lines that import TensorFlow."""
    found = []
    for node in ast.walk(ast.parse(code)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        if any(m.split(".")[0] in _OF_TENSORFLOW for m in modules):
            place = getattr(node, "lineno", 1)
            line = code.splitlines()[place - 1].strip()
            reason = "TensorFlow is still imported"
            recipe = "look for what uses it"
            found.append(Finding(place, TODO, line[:60], reason, recipe))
    return found
