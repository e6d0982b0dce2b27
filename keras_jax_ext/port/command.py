"""The command: files in, files and a report out."""

import argparse
import difflib
import sys
from pathlib import Path

from keras_jax_ext.port import check, files, notebook, report
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
        0 if all is ported, 1 if something is left, 2 if nothing was read or
        written.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json and options.diff:
        parser.error("--json and --diff are two reports: give one of them")
    try:
        results = _run(options)
    except files.Refused as error:
        print(error, file=sys.stderr)
        return 2
    report.show(results, as_json=options.json, diff=options.diff)
    return 1 if any(ported.left for _, ported in results) else 0


def _run(options: argparse.Namespace) -> report.Results:
    """Port each file, and write the ports if that is asked."""
    path = Path(options.path)
    output = Path(options.output) if options.output else None
    results = []
    ports: dict[Path, bytes] = {}
    for each in files.sources(path, output):
        target = files.target(each, path, output) if output else each
        source, ported = _one(each)
        if source is not None:
            data = ported.text.encode(source.encoding)
            ports[target] = data
            if options.diff:
                _show_difference(each, source.text, ported.text)
            if options.check:
                ported = check.compare(each, ported, data)
        results.append((each, ported))
    if output or options.in_place:
        files.write(ports, in_place=options.in_place)
    return results


def _one(path: Path) -> tuple[files.Source | None, Ported]:
    """A file, or `None` if it cannot be read, and what became of it."""
    try:
        source = files.read(path)
    except (OSError, SyntaxError, LookupError, UnicodeError) as error:
        recipe = "save it as UTF-8, or name its encoding in the first line"
        if isinstance(error, OSError):
            recipe = "look whether it is there"
        left = Finding(
            1, TODO, path.name, f"it cannot be read: {error}", recipe
        )
        return None, Ported("", [left])
    is_notebook = path.suffix == ".ipynb"
    return source, (notebook.port if is_notebook else port)(source.text)


def _show_difference(path: Path, before: str, after: str) -> None:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        str(path),
        "ported",
    )
    sys.stdout.write("".join(lines))
