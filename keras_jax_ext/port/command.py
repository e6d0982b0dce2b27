"""The command: files in, files and a report out."""

import argparse
import difflib
import sys
from pathlib import Path

from keras_jax_ext.port import check, notebook, report
from keras_jax_ext.port.convert import port
from keras_jax_ext.port.findings import TODO, Finding, Ported


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_jax_ext.port",
        description="Port a script of tf.keras or Keras 2 to Keras 3 on JAX. "
        "The exit code is 0 only if nothing is left to do by hand.",
    )
    parser.add_argument("path", help="a script, a notebook, or a folder")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", "--output", help="the file or folder to write")
    where.add_argument(
        "--in-place", action="store_true", help="write over the original"
    )
    where.add_argument(
        "--diff", action="store_true", help="show the changes, write nothing"
    )
    where.add_argument(
        "--check",
        action="store_true",
        help="run both, and compare (needs TensorFlow and tf_keras)",
    )
    parser.add_argument(
        "--json", action="store_true", help="the report as JSON"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: List of strings. Defaults to `None`, those of the process.

    Returns:
        0 if all is ported, 1 if something is left, 2 if nothing was read.
    """
    options = _parser().parse_args(arguments)
    path = Path(options.path)
    if not path.exists():
        print(
            f"No file was found. Received: {path}. Give the path of a script, "
            "a notebook or a folder.",
            file=sys.stderr,
        )
        return 2
    results = []
    for source in _files(path):
        results.append((source, _one(source, path, options)))
    report.show(results, as_json=options.json, diff=options.diff)
    return 1 if any(ported.left for _, ported in results) else 0


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [*path.rglob("*.py"), *path.rglob("*.ipynb")]
    hidden = (".ipynb_checkpoints", "__pycache__", ".git")
    return sorted(p for p in found if not set(p.parts) & set(hidden))


def _one(source: Path, top: Path, options: argparse.Namespace) -> Ported:
    try:
        text = source.read_bytes().decode()
    except UnicodeDecodeError as error:
        left = Finding(
            1, TODO, source.name, f"it is no text: {error}", "check the file"
        )
        return Ported("", [left])
    ported = notebook.port(text) if source.suffix == ".ipynb" else port(text)
    if options.diff:
        lines = difflib.unified_diff(
            text.splitlines(keepends=True),
            ported.text.splitlines(keepends=True),
            str(source),
            "ported",
        )
        sys.stdout.write("".join(lines))
        return ported
    target = _target(source, top, options)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(ported.text.encode())
    if options.check and not ported.left:
        return check.compare(source, ported)
    return ported


def _target(
    source: Path, top: Path, options: argparse.Namespace
) -> Path | None:
    if options.in_place:
        return source
    if options.output is None:
        return None
    output = Path(options.output)
    return output / source.relative_to(top) if top.is_dir() else output
