"""One script, ported: what it is, and the passes over it."""

import ast
import re

from keras_jax_ext.port.findings import TODO, Finding, Ported
from keras_jax_ext.port.importing import FIRST, Imports
from keras_jax_ext.port.rewriting import Rewriter
from keras_jax_ext.port.rules import imports
from keras_jax_ext.port.script import BY_HAND, Script

import libcst as cst

NOTHING = "it uses neither TensorFlow nor Keras: nothing to do"
ALREADY = "it runs on Keras 3 already: nothing to do"
_KERAS_3 = re.compile(
    r"\bkeras_jax_ext\b|KERAS_BACKEND|\bkeras\.(ops|random|saving|config)\b"
    r"|from\s+keras\s+import\s+[^\n]*\bops\b"
)
_PYTHON_2 = re.compile(
    r"\s*((print|exec)\s+[^(=\s]|except\s+\w+\s*,|raise\s+\w+\s*,)"
)


def port(text: str) -> Ported:
    """Port a script.

    Args:
        text: The script.

    Returns:
        The new text, and what was found.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    plain = text.replace("\r\n", "\n")
    try:
        script = Script(plain)
    except cst.ParserSyntaxError as error:
        return Ported(text, [_unreadable(plain, error)])
    if FIRST in plain and (marks := _marks(plain)):
        return Ported(text, marks)
    if FIRST not in plain and not _imports_old(script.module):
        return Ported(text, [], NOTHING)
    if FIRST in plain or (_KERAS_3.search(plain) and "tensorflow" not in plain):
        return Ported(text, [], ALREADY)
    try:
        module = Rewriter(script).run()
        module = Imports(script, module).run()
        _last_look(script, module)
        ast.parse(module.code)
    except Exception as error:  # a fault of the tool: nothing is written
        reason = f"the tool failed: {type(error).__name__}: {error}"
        left = Finding(1, TODO, "", reason.splitlines()[0], "report it")
        return Ported(text, [*_in_order(script.findings), left])
    code = module.code.replace("\n", newline)
    return Ported(code, _in_order(script.findings))


def _marks(text: str) -> list[Finding]:
    """What an earlier run has left, by the comments that it wrote."""
    found = []
    for place, line in enumerate(text.splitlines(), 1):
        before, mark, rest = line.partition(f"# {BY_HAND}")
        if mark and not before.strip():
            reason, _, recipe = rest.partition(". ")
            found.append(Finding(place, TODO, "an earlier run", reason, recipe))
    return found


def _in_order(findings: list[Finding]) -> list[Finding]:
    """By line; of those that say the same of a line, the longest."""
    chosen: dict[tuple[int, str, str], Finding] = {}
    for f in findings:
        key = (f.line, f.kind, f.text)
        if key not in chosen or len(chosen[key].what) < len(f.what):
            chosen[key] = f
    return sorted(chosen.values())


def _imports_old(module: cst.Module) -> bool:
    finder = _ImportFinder()
    module.visit(finder)
    return finder.found


class _ImportFinder(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found = False

    def visit_Import(self, node: cst.Import) -> None:
        self._look(node)

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        self._look(node)

    def _look(self, node):
        name = imports.root(node) or ""
        self.found |= imports.is_ours(node) or name in imports.COMPANIONS


def _unreadable(text: str, error: cst.ParserSyntaxError) -> Finding:
    line = error.raw_line
    lines = text.splitlines()
    shown = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    reason, recipe = "it is no Python 3", "correct the line"
    for place in (line, line - 1):  # the parser may have read on
        if 0 < place <= len(lines) and _PYTHON_2.match(lines[place - 1]):
            line, shown = place, lines[place - 1].strip()
            reason, recipe = "it is Python 2", "convert it with 2to3 first"
            break
    if shown.startswith(("%", "!")):
        reason, recipe = "it has magics of a notebook", "port the notebook"
    return Finding(line, TODO, shown[:60], reason, recipe)


def _last_look(script: Script, module: cst.Module) -> None:
    """Whatever names TensorFlow still, and was not spoken of, is refused."""
    told = any(f.kind == TODO for f in script.findings)
    code = re.sub(r"#.*", "", module.code)
    for place, line in enumerate(code.splitlines(), 1):
        if (
            re.match(r"\s*(import|from)\s+(tensorflow|tf_keras)", line)
            and not told
        ):
            script.findings.append(
                Finding(
                    place,
                    TODO,
                    line.strip()[:60],
                    "TensorFlow is still imported",
                    "look for what uses it",
                )
            )
