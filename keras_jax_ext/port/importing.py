"""The imports of a script, once everything else is rewritten."""

import re
from typing import Any

from keras_jax_ext.port import visiting
from keras_jax_ext.port.blocks import removed, tidied
from keras_jax_ext.port.resolve import dotted, normal
from keras_jax_ext.port.rules import imports
from keras_jax_ext.port.rules.lookup import find
from keras_jax_ext.port.rules.training import is_docstring
from keras_jax_ext.port.script import Script

import libcst as cst

FIRST = "first: it selects the JAX backend"
# Losses that TensorFlow computed of what softmax and sigmoid were given.
_LOSSES = re.compile(r"(?i)(?<!focal)(?<!focal_)crossentropy")
_OUTPUTS = re.compile(r"(?i)softmax|sigmoid")


class _Loaded(visiting.Names):
    """The names that are read anywhere but in imports."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Import(self, node: cst.Import) -> bool:
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        return False

    def visit_Name(self, node: cst.Name) -> None:
        self.found.add(node.value)


class Imports(cst.CSTTransformer):
    """Rewrites the imports, and adds those that are needed."""

    def __init__(self, script: Script, module: cst.Module) -> None:
        self.script = script
        self.module = module
        before, now = _Loaded(), _Loaded()
        script.module.visit(before)
        module.visit(now)
        self._before, self._now = before.found, now.found
        self._kje = script.module_name("keras_jax_ext")

    def run(self) -> cst.Module:
        """The script with its imports."""
        module = self.module.visit(self)
        assert isinstance(module, cst.Module)
        return self._added(module)

    def leave_SimpleStatementLine(self, original: Any, updated: Any) -> Any:
        lines: list[str] = []
        changed = False
        for statement in updated.body:
            if isinstance(
                statement, (cst.Import, cst.ImportFrom)
            ) and imports.is_ours(statement):
                changed = True
                self._mark_unused(statement)
                lines += imports.rewrite(self.script, statement)
            else:
                lines.append(
                    cst.Module([]).code_for_node(statement).rstrip("; ")
                )
        if not changed:
            return updated
        if not lines:
            return removed(updated)
        if len(lines) == 1 and lines[0] == cst.Module([]).code_for_node(
            updated.body[0]
        ):
            return updated
        new = [cst.parse_statement(line) for line in lines]
        new[0] = new[0].with_changes(leading_lines=updated.leading_lines)
        new[-1] = new[-1].with_changes(
            trailing_whitespace=updated.trailing_whitespace
        )
        return cst.FlattenSentinel(new)

    def _mark_unused(self, statement) -> None:
        if isinstance(statement.names, cst.ImportStar):
            return
        for alias in statement.names:
            node = alias.asname.name if alias.asname else alias.name
            bound = (dotted(node) or "").split(".")[0]
            if bound in self._now or bound in self.script.kept:
                continue
            if bound in self._before or not self._is_known(statement, alias):
                self.script.unused.add(bound)

    def _is_known(self, statement, alias) -> bool:
        """Whether an import that nothing uses can stay."""
        module = (
            dotted(statement.module)
            if isinstance(statement, cst.ImportFrom)
            else ""
        )
        whole = normal(f"{module}.{dotted(alias.name)}".lstrip("."))
        found = find(whole)
        return (
            found.name is not None
            and found.row is None
            and not whole.startswith("tensorflow")
        )

    def leave_IndentedBlock(self, original: Any, updated: Any) -> Any:
        return tidied(updated)

    def _added(self, module: cst.Module) -> cst.Module:
        """Put what is needed before the first import that was rewritten."""
        place = self._place(self.module)
        body = list(module.body)
        lines = self._lines(body)
        new = [cst.parse_statement(line) for line in lines]
        new[0] = new[0].with_changes(
            trailing_whitespace=cst.TrailingWhitespace(
                whitespace=cst.SimpleWhitespace("  "),
                comment=cst.Comment(f"# {FIRST}"),
            )
        )
        taken = set(lines)
        rest = [
            s
            for i, s in enumerate(body)
            if i < place or cst.Module([s]).code.strip() not in taken
        ]
        if place < len(body) and self._is_import(place):
            leading = body[place].leading_lines
            new[0] = new[0].with_changes(leading_lines=leading)
            if rest[place : place + 1] == body[place : place + 1]:
                rest[place] = rest[place].with_changes(leading_lines=[])
        body = [*rest[:place], *new, *rest[place:]]
        self._set_up(body, place + len(new))
        return tidied(module.with_changes(body=body))

    def _set_up(self, body: list, place: int) -> None:
        """Put what holds for the whole script behind the first imports."""
        code = self.module.code
        if not _LOSSES.search(code) or (
            "from_logits" in code and not _OUTPUTS.search(code)
        ):
            return
        while place < len(body) and _imports(body[place]):
            place += 1
        line = f"{self._kje}.keras2.crossentropy_of_logits()"
        body.insert(place, cst.parse_statement(line))

    def _is_import(self, place: int) -> bool:
        """Whether the imports take the place of one."""
        return _imports(self.module.body[place])

    def _place(self, module: cst.Module) -> int:
        """The number of the first statement that may import Keras."""
        last = 0
        for place, statement in enumerate(module.body):
            code = cst.Module([statement]).code.strip()
            if code.startswith("from __future__") or (
                place == 0 and is_docstring(statement)
            ):
                last = place + 1
        for place, statement in enumerate(module.body):
            if place < last:
                continue
            if not isinstance(statement, cst.SimpleStatementLine):
                return place
            for each in statement.body:
                if isinstance(each, (cst.Import, cst.ImportFrom)) and (
                    imports.is_ours(each) or not _is_standard(each)
                ):
                    return place
        return last

    def _lines(self, body: list) -> list[str]:
        kje = self.script.needed.pop("keras_jax_ext")
        lines = [f"import keras_jax_ext as {kje}"]
        present = {cst.Module([s]).code.strip() for s in body}
        for module, name in sorted(self.script.needed.items()):
            if "." in name and name == module:
                continue
            if name.split(".")[0] not in self._now:
                continue
            line = f"import {module}" + (
                f" as {name}" if name != module else ""
            )
            if line not in present or module == "keras":
                lines.append(line)
        return lines


def _imports(line: cst.CSTNode) -> bool:
    return isinstance(line, cst.SimpleStatementLine) and any(
        isinstance(each, (cst.Import, cst.ImportFrom)) for each in line.body
    )


_STANDARD = [
    "os",
    "sys",
    "time",
    "math",
    "random",
    "re",
    "json",
    "argparse",
    "datetime",
    "collections",
    "itertools",
    "functools",
    "glob",
    "shutil",
    "pathlib",
    "logging",
    "warnings",
    "string",
    "copy",
    "pickle",
    "io",
    "numpy",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "PIL",
    "seaborn",
    "tqdm",
    "cv2",
    "h5py",
    "imageio",
    "gzip",
    "zipfile",
    "urllib",
    "tempfile",
    "typing",
    "__future__",
    "six",
]


def _is_standard(statement: cst.Import | cst.ImportFrom) -> bool:
    """Whether an import surely does not import Keras."""
    return imports.root(statement) in _STANDARD
