"""Notebooks: the code of all cells is one script, with magics set aside."""

import json
import re

from keras_jax_ext.port import convert
from keras_jax_ext.port.findings import TODO, Finding, Ported

_MARK = "# --- cell "
_MAGIC = re.compile(r"^(\s*)([%!?].*|[A-Za-z_.]+\?\??\s*)$")


def port(text: str) -> Ported:
    """Port the code cells of a notebook.

    Args:
        text: The notebook's JSON.

    Returns:
        The new JSON, and what was found, by lines of all code together.
    """
    try:
        content = json.loads(text)
        cells = [c for c in content["cells"] if c.get("cell_type") == "code"]
    except (ValueError, KeyError, TypeError):
        left = Finding(
            1, TODO, "", "it is no notebook of version 4", "save it anew"
        )
        return Ported(text, [left])
    parts = [_set_aside(_text(cell), i) for i, cell in enumerate(cells)]
    ported = convert.port("".join(parts))
    if ported.note or ported.text == "".join(parts):
        return ported._replace(text=text)
    pieces = re.split(rf"^{re.escape(_MARK)}(\d+)$\n", ported.text, flags=re.M)
    before = pieces[0]
    for number, code in zip(pieces[1::2], pieces[2::2], strict=True):
        cell = cells[int(number)]
        code = _put_back(before + code).rstrip("\n")
        before = ""
        lines = code.splitlines(keepends=True)
        cell["source"] = lines if isinstance(cell["source"], list) else code
    return ported._replace(
        text=json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    )


def _text(cell: dict) -> str:
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, list) else source


def _set_aside(code: str, number: int) -> str:
    """A cell whose magics are comments; each begins with its number."""
    lines = code.rstrip("\n").split("\n")
    if lines[0].lstrip().startswith("%%") and "time" not in lines[0]:
        lines = [f"#magic {line}" for line in lines]
    kept = []
    for line in lines:
        found = _MAGIC.match(line)
        kept.append(f"{found[1]}pass  #magic {found[2]}" if found else line)
    return f"{_MARK}{number}\n" + "\n".join(kept) + "\n"


def _put_back(code: str) -> str:
    code = re.sub(r"^(\s*)pass  #magic (.*)$", r"\1\2", code, flags=re.M)
    return re.sub(r"^#magic ", "", code, flags=re.M)
