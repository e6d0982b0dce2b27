"""The files: which are read, how they are encoded, where ports are written."""

import codecs
import io
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keras_jax_ext._disk.atomic import replacing

# Folders of other people's code, or of none.
_PASSED_OVER = ("__pycache__", "site-packages", "node_modules")


class Refused(Exception):
    """Why nothing is read, or nothing is written."""


class Source(NamedTuple):
    """A file that was read.

    Attributes:
        text: What it holds.
        encoding: How it is encoded, as Python reads it.
    """

    text: str
    encoding: str


def sources(path: Path, output: Path | None) -> list[Path]:
    """The scripts and notebooks to port.

    Args:
        path: A file or a folder.
        output: Where ports are written, which is passed over. Or `None`.

    Returns:
        List of paths, in order.

    Raises:
        Refused: If there is none.
    """
    if not path.exists():
        raise Refused(
            f"No script was found. Received: path={path}, which is not there. "
            "Give the path of a script, a notebook or a folder."
        )
    if path.is_file():
        return [path]
    found = [*path.rglob("*.py"), *path.rglob("*.ipynb")]
    # A broken link is read, and then spoken of.
    found = [p for p in found if not p.is_dir() and _is_own(p, path, output)]
    if not found:
        raise Refused(
            "No script was found: a folder is searched for `.py` and `.ipynb`. "
            f"Received: path={path}, which has none. Give the folder that has."
        )
    return sorted(found)


def _is_own(each: Path, top: Path, output: Path | None) -> bool:
    folders = each.relative_to(top).parts[:-1]
    if any(f.startswith(".") or f in _PASSED_OVER for f in folders):
        return False
    return output is None or output.resolve() not in each.resolve().parents


def read(path: Path) -> Source:
    """Read a file as Python would.

    Args:
        path: A script, or a notebook.

    Raises:
        OSError: If it cannot be read.
        SyntaxError: If it names an encoding that is not known.
        LookupError: If it names one that is not of text.
        UnicodeError: If it is in another one than it names.
    """
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        bom = data.startswith(codecs.BOM_UTF8)
        encoding = "utf-8-sig" if bom else "utf-8"
    else:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return Source(data.decode(encoding), encoding)


def target(source: Path, top: Path, output: Path) -> Path:
    """Where a port is written.

    Args:
        source: The file.
        top: The file or folder that was given.
        output: The one that was given for ports.

    Raises:
        Refused: If it is the original, or no folder for those of a folder.
    """
    if top.is_dir():
        if output.exists() and not output.is_dir():
            raise Refused(
                "The ports of a folder are written into a folder. Received: "
                f"--output={output}, a file. Give the path of a folder."
            )
        found = output / source.relative_to(top)
    else:
        found = output / source.name if output.is_dir() else output
    if found.exists() and found.samefile(source):
        raise Refused(
            "A port is written beside its original. Received: "
            f"--output={output}, which is the original. Give `--in-place`."
        )
    return found


def write(ports: Mapping[Path, bytes], *, in_place: bool = False) -> None:
    """Write files, all or none that another one stands in the way of.

    Args:
        ports: What each file is to hold.
        in_place: Whether to write over what is there. Defaults to `False`.

    Raises:
        Refused: If one is there and holds something else (work by hand may be
            in it), or cannot be written.
    """
    try:
        new = {p: data for p, data in ports.items() if not _holds(p, data)}
        for path in new:
            if path.exists() and not in_place:
                raise Refused(
                    "What is there is not written over: work by hand may be in "
                    f"it. Received: --output={path}, which holds something "
                    "else. Take it away, or give another path."
                )
        for path, data in new.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as beside:
                beside.write_bytes(data)
    except OSError as error:
        raise Refused(
            f"A port could not be written. Received: {error}. Give `--output` "
            "a path that can be written to."
        ) from error


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data
