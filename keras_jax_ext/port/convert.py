"""One script, ported: what it is, and the passes over it."""

import ast
import re
import sys

from keras_jax_ext.port import before
from keras_jax_ext.port.findings import TODO, Finding, Ported
from keras_jax_ext.port.importing import Imports
from keras_jax_ext.port.own_names import freed
from keras_jax_ext.port.rewriting import Rewriter
from keras_jax_ext.port.rules import draws, symbolic, traced, unseen
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tape_ends import ended

import libcst as cst

_PYTHON_2 = re.compile(
    r"^((print|exec)\s+[^(=\s]|except\s+[\w.]+\s*,|raise\s+[\w.]+\s*,)"
    r"|<>|`|\bur[\"']|\b0[0-7]+\b|\b\d+L\b"
)


def port(text: str) -> Ported:
    """Port a script.

    Args:
        text: The script.

    Returns:
        The new text, and what was found.
    """
    newline = next((n for n in ("\r\n", "\n", "\r") if n in text), "\n")
    plain = text.replace(newline, "\n")
    if fault := _unreadable(plain):
        return Ported(text, [fault])
    findings: list[Finding] = []
    try:
        own, said = freed(ended(plain))
        script = Script(own)
        findings = script.findings
        findings += said
        left = before.earlier(script)
        note = before.note(script) if left is None else before.ALREADY
        if left:
            return Ported(text, left)
        if note:
            return Ported(text, [], note)
        code = _rewritten(script)
    except Exception as error:  # a fault of the tool: nothing is written
        reason = f"the tool failed: {type(error).__name__}: {error}"
        fault = Finding(1, TODO, "", reason.splitlines()[0], "report it")
        return Ported(text, [*_in_order(findings), fault])
    return Ported(code.replace("\n", newline), _in_order(findings))


def _rewritten(script: Script) -> str:
    unseen.mark(script)
    traced.mark(script)
    symbolic.mark(script)
    draws.mark(script)
    module = Rewriter(script).run()
    code = Imports(script, module).run().code
    ast.parse(code)
    if not any(f.kind == TODO for f in script.findings):
        # Whatever names TensorFlow still, and was not spoken of, is refused.
        script.findings += before.still_imported(code)
    return code


def _in_order(findings: list[Finding]) -> list[Finding]:
    """By line; of those that say the same of a line, the longest."""
    chosen: dict[tuple[int, str, str], Finding] = {}
    for f in findings:
        key = (f.line, f.kind, f.text)
        if key not in chosen or len(chosen[key].what) < len(f.what):
            chosen[key] = f
    return sorted(chosen.values())


def _unreadable(text: str) -> Finding | None:
    """Why a script cannot be read, if it cannot."""
    try:
        ast.parse(text)
        cst.parse_module(text)
    except (SyntaxError, ValueError, MemoryError) as error:
        return _explained(text, error)
    except (RecursionError, cst.ParserSyntaxError) as error:
        reason = f"LibCST cannot read it: {str(error).splitlines()[0]}"
        return Finding(1, TODO, "", reason, "write it in smaller parts")
    return None


def _explained(text: str, error: Exception) -> Finding:
    line = getattr(error, "lineno", None) or 1
    lines = text.splitlines()
    shown = lines[line - 1].strip() if line <= len(lines) else ""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    reason = f"it is no Python {version}: {getattr(error, 'msg', error)}"
    recipe = "correct the line"
    if shown.startswith(("%", "!")):
        reason, recipe = "it has magics of a notebook", "port the notebook"
    elif _PYTHON_2.search(shown):
        reason, recipe = "it is Python 2", "convert it with 2to3 first"
    return Finding(line, TODO, shown[:60], reason, recipe)
