"""A script while it is ported: its names, what is found, what it needs."""

import re
from typing import Any

from keras_jax_ext.port import visiting
from keras_jax_ext.port.findings import DIFFERS, DONE, TODO, Finding
from keras_jax_ext.port.resolve import Ambiguous, Names

import libcst as cst
from libcst.metadata import MetadataWrapper

# Modules that the tool writes, and what it calls them.
_USUAL = {
    "keras_jax_ext": "kje",
    "keras": "keras",
    "jax": "jax",
    "jax.numpy": "jnp",
    "numpy": "np",
    "os": "os",
    "shutil": "shutil",
    "glob": "glob",
    "time": "time",
    "contextlib": "contextlib",
    "logging": "logging",
}

# How the comment above what is left begins.
BY_HAND = "To do by hand: "


class Script:
    """What the rules share."""

    def __init__(self, text: str) -> None:
        self.wrapper = MetadataWrapper(cst.parse_module(text))
        self.module = self.wrapper.module
        # `module.code` would be written anew each time.
        self.text = self.module.code
        self.names = Names(self.wrapper)
        self.findings: list[Finding] = []
        # Modules that were written, and the names they have here.
        self.needed: dict[str, str] = {}
        # Nodes that a rule for the whole call rewrites.
        self.claimed: set[cst.CSTNode] = set()
        # Comments to write above the statement that holds a node.
        self.comments: dict[cst.CSTNode, list[str]] = {}
        # References that still need an import of the original.
        self.kept: set[str] = set()
        # Layers that an `Input` comes before, and its text.
        self.inputs: dict[cst.CSTNode, str] = {}
        # Calls whose value is assigned to the name of their object.
        self.rebound: dict[cst.CSTNode, str] = {}
        # Calls of load_model, and the models that get the weights.
        self.restored: dict[cst.CSTNode, str] = {}
        # Statements that another line comes before.
        self.preceding: dict[cst.CSTNode, str] = {}
        # Names in tapes whose values are read.
        self.read_in_tapes: set[cst.CSTNode] = set()
        # Classes that need a generator of random numbers.
        self.drawing: set[cst.ClassDef] = set()
        # Functions that JAX traces, as far as is seen.
        self.traced: set[cst.CSTNode] = set()
        # Methods whose generator functions draw from, and these functions.
        self.lending: set[cst.FunctionDef] = set()
        self.borrowing: set[cst.FunctionDef] = set()
        # Names of imports that nothing uses any more.
        self.unused: set[str] = set()
        # Functions that are given to Lambda layers.
        self.lambdas = set(
            re.findall(r"Lambda\(\s*(?:function\s*=\s*)?(\w+)", text)
        )
        self.of_tensorflow = bool(
            re.search(r"\b(tensorflow|tf_keras|keras)\b", text)
        )
        self.in_64_bits = bool(
            re.search(r"\bset_floatx\(\s*[\"']float64", text)
        )
        self._bound = _bound_names(self.module)
        self._made: set[str] = set()
        self._commented: set[str] = set()

    def code(self, node: cst.CSTNode) -> str:
        """The text of a node."""
        return self.module.code_for_node(node)

    def of(self, node: cst.BaseExpression) -> str | None:
        """The dotted name of an expression; what is ambiguous is left."""
        try:
            return self.names.of(node)
        except Ambiguous as error:
            self.todo(
                node,
                f"`{error}` means several things here",
                "give the module and the other value two names",
            )
            return None

    def done(self, node: cst.CSTNode, text: str) -> None:
        """Say what became of a node."""
        self._add(node, DONE, text)

    def differs(self, node: cst.CSTNode, text: str) -> None:
        """Say what became of a node, here and in a comment above it."""
        self._add(node, DIFFERS, text)
        if text in self._commented:  # once is enough
            return
        self._commented.add(text)
        held = self.comments.setdefault(self.statement(node), [])
        held.append(f"Ported. {text}")

    def todo(self, node: cst.CSTNode, reason: str, recipe: str) -> None:
        """Say why a node is left, and what to do by hand."""
        self._add(node, TODO, reason, recipe)
        held = self.comments.setdefault(self.statement(node), [])
        text = f"{BY_HAND}{reason}. {recipe}"
        if text not in held:
            held.append(text)

    def _add(self, node, kind, text, recipe=""):
        line = self.names.line(node)
        bare = node
        if hasattr(node, "leading_lines"):  # comments above a statement
            bare = node.with_changes(leading_lines=[])
        what = " ".join(self.code(bare).split())
        what = what if len(what) <= 60 else what[:57] + "..."
        finding = Finding(line, kind, what, text, recipe)
        if finding not in self.findings:
            self.findings.append(finding)

    def statement(self, node: cst.CSTNode) -> cst.CSTNode:
        """The statement that a node is in, which can have a comment."""
        kinds = (cst.SimpleStatementLine, cst.BaseCompoundStatement)
        for each in self.names.up(node):
            if isinstance(each, kinds):
                return each
        return self.module

    def within(self, node: cst.CSTNode, kind: Any) -> cst.CSTNode | None:
        """The innermost node of a kind that a node is in."""
        for each in self.names.up(node)[1:]:
            if isinstance(each, kind):
                return each
        return None

    def module_name(self, module: str) -> str:
        """What a module is called here; it will be imported."""
        if module in self.needed:
            return self.needed[module]
        root = module.split(".")[0]
        if module not in _USUAL and root in _USUAL:
            return self.module_name(root) + module[len(root) :]
        name = self._usable(module, _USUAL.get(module, module))
        self.needed[module] = name
        return name

    def _usable(self, module: str, usual: str) -> str:
        meanings = self._bound.get(usual.split(".")[0], set())
        if not meanings or meanings <= {module, module.split(".")[0]}:
            return usual
        if usual == "keras" and all(
            m and m.split(".")[0] in ("keras", "tensorflow") for m in meanings
        ):
            return usual
        return f"{usual.replace('.', '_')}_"

    def target(self, dotted: str) -> str:
        """How a dotted name is written here; its module will be imported."""
        for module in sorted(_USUAL, key=len, reverse=True):
            if dotted == module or dotted.startswith(f"{module}."):
                return self.module_name(module) + dotted[len(module) :]
        return dotted

    def fresh(self, name: str) -> str:
        """A name that nothing has here."""
        count = 1
        found = name
        while found in self._bound or found in self._made:
            count += 1
            found = f"{name}_{count}"
        self._made.add(found)
        return found


class _Bound(visiting.Names):
    """Collects every name that is bound, and the modules it stands for."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}

    def _add(self, name: str, meaning: str) -> None:
        self.found.setdefault(name, set()).add(meaning)

    def visit_Import(self, node: cst.Import) -> None:
        for alias in node.names:
            whole = cst.Module([]).code_for_node(alias.name)
            if alias.asname:
                self._add(
                    cst.Module([]).code_for_node(alias.asname.name), whole
                )
            else:
                self._add(whole.split(".")[0], whole.split(".")[0])

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if isinstance(node.names, cst.ImportStar):
            return
        module = (
            cst.Module([]).code_for_node(node.module) if node.module else ""
        )
        for alias in node.names:
            name = alias.asname.name if alias.asname else alias.name
            bound = cst.Module([]).code_for_node(name).strip()
            self._add(bound, f"{module}.{alias.name.value}")

    def visit_Name(self, node: cst.Name) -> None:
        self.found.setdefault(node.value, set())

    def visit_Param(self, node: cst.Param) -> None:
        self._add(node.name.value, "")

    def visit_Assign(self, node: cst.Assign) -> None:
        value = cst.Module([]).code_for_node(node.value)
        alias = value in ("tf.keras", "tensorflow.keras")
        for each in node.targets:
            if alias and isinstance(each.target, cst.Name):
                self._add(each.target.value, "keras")
            else:
                self._target(each.target)

    def visit_For(self, node: cst.For) -> None:
        self._target(node.target)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._add(node.name.value, "")

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._add(node.name.value, "")

    def _target(self, node: cst.BaseExpression) -> None:
        if isinstance(node, cst.Name):
            self._add(node.value, "")
        elif isinstance(node, (cst.Tuple, cst.List)):
            for element in node.elements:
                self._target(element.value)


def _bound_names(module: cst.Module) -> dict[str, set[str]]:
    visitor = _Bound()
    module.visit(visitor)
    return visitor.found
