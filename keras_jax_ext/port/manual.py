"""The manual's table of operations, made of the tool's own tables.

`python -m keras_jax_ext.port.manual docs/porting-operations.md` writes it.
"""

import sys
from pathlib import Path

from keras_jax_ext.port.tables.operations import OPERATIONS, Row

_HEAD = """# Operations of TensorFlow

The table that `python -m keras_jax_ext.port` works with; it is made from the
tool's own, each row of which is computed on both sides by a test. Arguments
that are not listed are refused by line; those in brackets are left out.
`kje.keras2` holds what has no name in Keras 3.

| TensorFlow | is now | arguments of now | differs |
|---|---|---|---|
"""


def manual() -> str:
    """The page of the manual."""
    rows = sorted(OPERATIONS.values(), key=lambda row: row.name.lower())
    return _HEAD + "".join(map(_line, rows))


def _line(row: Row) -> str:
    name = row.name.replace("tensorflow.", "tf.")
    name = name.replace("keras.backend.", "K.")
    target = row.target.replace("keras_jax_ext.", "kje.")
    cells = (f"`{name}`", f"`{target}`", _arguments(row), row.note)
    return "| " + " | ".join(cells) + " |\n"


def _arguments(row: Row) -> str:
    shown: list[str] = []
    out: list[str] = []
    for token in row.arguments.split():
        mark = token[0] if token[0] in "-!*+" else ""
        rest = token.removeprefix(mark)
        if mark == "!" or token == "*args":
            continue
        name, _, now = rest.partition("=")[0].partition(">")
        value = rest.partition("=")[2]
        text = (now or name) + (f"={value}" if value else "")
        (out if mark == "-" else shown).append(text)
    told = f"`{', '.join(shown)}`" if shown else ""
    return told + (f" ({', '.join(out)})" if out else "")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(manual())
