"""What is printed: a table by line, or JSON."""

import json
import sys
from pathlib import Path

from keras_jax_ext.port.findings import DIFFERS, DONE, TODO, Ported

_COLOURS = {DONE: "green", DIFFERS: "yellow", TODO: "red"}
Results = list[tuple[Path, Ported]]


def show(results: Results, *, as_json: bool, diff: bool = False) -> None:
    """Print the report; what is left goes to the stream of errors.

    Args:
        results: Pairs of a file and what became of it.
        as_json: Whether to print JSON.
        diff: Whether the changes were shown in place of a table.
    """
    if as_json:
        print(json.dumps([_as_dict(*each) for each in results], indent=2))
        return
    for path, ported in results:
        if ported.note:
            print(f"{path}: {ported.note}")
        elif not diff:
            _table(path, ported)
        for f in ported.left:
            print(
                f"{path}:{f.line}: {f.what}: {f.text}. By hand: {f.recipe}.",
                file=sys.stderr,
            )
    total = sum(len(ported.left) for _, ported in results)
    if total:
        print(f"{total} to do by hand.", file=sys.stderr)


def _as_dict(path: Path, ported: Ported) -> dict[str, object]:
    return {
        "file": str(path),
        "ported": not ported.left,
        "note": ported.note,
        "findings": [f._asdict() for f in ported.findings],
    }


def _table(path: Path, ported: Ported) -> None:
    counts = {
        kind: sum(f.kind == kind for f in ported.findings)
        for kind in (DONE, DIFFERS, TODO)
    }
    summary = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    if sys.stdout.isatty() and _rich_table(path, ported):
        print(summary)
        return
    print(f"{path}: {summary}")
    for f in ported.findings:
        text = f.text + (f". By hand: {f.recipe}" if f.recipe else "")
        print(f"{f.line:>5}  {f.kind:<7}  {f.what}  ->  {text}")


def _rich_table(path: Path, ported: Ported) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(title=str(path))
    for column in ("line", "", "what", "became"):
        table.add_column(column)
    for f in ported.findings:
        text = f.text + (f"\n{f.recipe}" if f.recipe else "")
        table.add_row(
            str(f.line),
            Text(f.kind, _COLOURS[f.kind]),
            Text(f.what),
            Text(text),
        )
    Console().print(table)
    return True
