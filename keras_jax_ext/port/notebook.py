"""Notebooks: the code of all cells is one script, with magics set aside."""

import ast
import json
import re
from typing import Any

from keras_jax_ext.port import convert
from keras_jax_ext.port.findings import TODO, Finding, Ported

_MARK = "# --- cell "
# Magics of a cell whose other lines are Python.
_OF_PYTHON = ("%%time", "%%timeit", "%%capture", "%%prun")
# A line that is a magic, a command or a question; one that takes its result;
# and one that runs code.
_LINE = re.compile(r"^(\s*)([%!?].*|[A-Za-z_.]+\?\??\s*)$")
_ASSIGNED = re.compile(r"^(\s*[\w, ]+=\s*)([%!].*)$")
_TIMED = re.compile(r"^(\s*)(%(?:time|timeit)(?: -\w(?: ?\d+)?)*) (?!-)(.+)$")
# What a magic hides from the port.
_HIDDEN = re.compile(
    r"^\s*(import|from)\s+(tensorflow|tf_keras|keras)\b"
    r"|^\s*(\w+\s*=\s*)?%[^%].*\b(tf|keras)\.\w"
)


def port(text: str) -> Ported:
    """Port the code cells of a notebook.

    Args:
        text: The notebook's JSON.

    Returns:
        The new JSON, and what was found, by cells and their lines.
    """
    try:
        content = json.loads(text)
        cells = [c for c in content["cells"] if c.get("cell_type") == "code"]
        codes = list(map(_text, cells))
        language = _language(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        reason, recipe = "it is no notebook of version 4", "save it anew"
        return Ported(text, [Finding(1, TODO, "", reason, recipe)])
    if not language.startswith("python"):
        reason, recipe = f"it is of {language}", "port its code by hand"
        return Ported(text, [Finding(1, TODO, "", reason, recipe)])
    parts = [_set_aside(code, i) for i, code in enumerate(codes)]
    script = "".join(parts)
    ported = convert.port(script)
    findings = [_placed(f, parts) for f in ported.findings] + _hidden(codes)
    if ported.note or ported.text == script:
        note = "" if findings else ported.note
        return Ported(text, findings, note)
    pieces = _pieces(ported.text, len(cells))
    if pieces is None:
        reason, recipe = "the tool failed: it has lost a cell", "report it"
        return Ported(text, [Finding(1, TODO, "", reason, recipe)])
    for cell, code in zip(cells, pieces, strict=True):
        lines = code.splitlines(keepends=True)
        cell["source"] = lines if isinstance(cell["source"], list) else code
    new = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return Ported(new, findings)


def _text(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    found = "".join(source) if isinstance(source, list) else source
    if not isinstance(found, str):
        raise TypeError
    return found


def _language(content: dict[str, Any]) -> str:
    metadata = content.get("metadata", {})
    for group, name in (("language_info", "name"), ("kernelspec", "language")):
        if found := metadata.get(group, {}).get(name):
            return str(found).lower()
    return "python"


def _set_aside(code: str, number: int) -> str:
    """A cell whose magics are comments; each begins with its number."""
    lines = code.rstrip("\n").split("\n")
    first = lines[0].split()
    if first and first[0].startswith("%%") and first[0] not in _OF_PYTHON:
        lines = [f"#magic {line}" for line in lines]
    return f"{_MARK}{number}\n" + "".join(f"{_aside(x)}\n" for x in lines)


def _aside(line: str) -> str:
    if (found := _TIMED.match(line)) and _is_python(found[3]):
        return f"{found[1]}{found[3]}  #timed {found[2]}"
    if found := _ASSIGNED.match(line):
        return f"{found[1]}None  #assigned {found[2]}"
    if found := _LINE.match(line):
        return f"{found[1]}pass  #magic {found[2]}"
    return line


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def _put_back(code: str) -> str:
    code = re.sub(r"^(\s*)(.*)  #timed (.*)$", r"\1\3 \2", code, flags=re.M)
    code = re.sub(r"^(.*)None  #assigned (.*)$", r"\1\2", code, flags=re.M)
    code = re.sub(r"^(\s*)pass  #magic (.*)$", r"\1\2", code, flags=re.M)
    return re.sub(r"^#magic ", "", code, flags=re.M)


def _pieces(code: str, count: int) -> list[str] | None:
    """The cells again, if all are there; what is before the first is its."""
    pieces = re.split(rf"^{re.escape(_MARK)}(\d+)$\n", code, flags=re.M)
    before, numbers, codes = pieces[0], pieces[1::2], pieces[2::2]
    if list(map(int, numbers)) != list(range(count)):
        return None
    codes[0] = before + codes[0]
    return [_put_back(each).rstrip("\n") for each in codes]


def _placed(finding: Finding, parts: list[str]) -> Finding:
    """A finding by the line of its cell, and not of all code."""
    line = finding.line
    number = 0
    while number < len(parts) - 1 and line > parts[number].count("\n"):
        line -= parts[number].count("\n")
        number += 1
    what = f"cell {number + 1}: {finding.what}"
    return finding._replace(line=max(line - 1, 1), what=what)


def _hidden(codes: list[str]) -> list[Finding]:
    """Code in magics, which is not ported."""
    found = []
    for number, code in enumerate(codes, 1):
        aside = _set_aside(code, number).split("\n")[1:]
        pairs = zip(code.split("\n"), aside, strict=False)
        for place, (line, now) in enumerate(pairs, 1):
            if now != line and "#timed" not in now and _HIDDEN.match(line):
                what = f"cell {number}: {line.strip()[:50]}"
                reason = "code in a magic is not ported"
                recipe = "take it out of the magic, and port it again"
                found.append(Finding(place, TODO, what, reason, recipe))
    return found
