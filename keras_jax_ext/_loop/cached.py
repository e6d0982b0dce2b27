"""Compiled programs on disk, for the next process: JAX's cache in a folder."""

import contextlib
import hashlib
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_jax_ext import _keras

import jax

# JAX leaves small programs out: the first of a model are hundreds of them.
_SETTINGS: dict[str, Any] = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
_CPU_INFO = Path("/proc/cpuinfo")


def cache_programs(
    folder: str | os.PathLike[str] | None = None,
    max_bytes: int = 2 * 2**30,
) -> Path | None:
    """Keep compiled programs on disk, so that the next process starts sooner.

    It sets up JAX's persistent compilation cache, unless you have set it up.
    JAX finds a program by all that it was made of and for: its operations,
    the versions and options of the compiler, and the device. A changed model,
    or another version of jaxlib, Keras or this package, finds none and
    compiles. A program that calls Python calls that of its own process.

    The first process starts sooner, too: from here on, Keras draws initial
    weights with a program for each size, not for each shape. They have the same
    values. This holds on a CPU.

    To switch it off, leave the call out; the folder can be deleted at any
    time. Whoever can write to it can make your processes run their code.

    Example:

    ```python
    # At the top of a script:
    # kje.cache_programs()
    # kje.cache_programs("/scratch/programs", max_bytes=10 * 2**30)
    ```

    Args:
        folder: Path. Defaults to `None`: `keras_jax_ext/programs` in the
            user's folder for caches (`$XDG_CACHE_HOME`, else `~/.cache`).
            Within it there is one for each kind of processor, since programs
            of one may not run on another.
        max_bytes: Integer, how large the folder may be when it is set up: the
            programs that were not used for longest are deleted. Defaults to
            2 GiB.

    Returns:
        Path of the folder in use; `None`, with a warning, if it cannot be
        written.
    """
    _keras.draw_by_size()
    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if given:
        return Path(given)
    root = Path(folder) if folder is not None else _own_folder()
    path = root.expanduser() / _machine()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path):
            pass
        _trim(path, max_bytes)
    except OSError as error:
        warnings.warn(
            "Compiled programs are kept in a folder that can be written. "
            f"Received: folder={str(path)!r} ({error}). Programs are compiled "
            "anew. Give another folder to `kje.cache_programs`.",
            stacklevel=2,
        )
        return None
    for name, value in _SETTINGS.items():
        jax.config.update(name, value)
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path


def _own_folder():
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches) / "keras_jax_ext" / "programs"


def _machine():
    """A name for the processor: a home may be shared by different ones."""
    features = platform.processor()
    with contextlib.suppress(OSError):
        lines = _CPU_INFO.read_text().splitlines()
        known = [line for line in lines if line.startswith(("flags", "Feat"))]
        features = known[0] if known else features
    digest = hashlib.sha256(features.encode()).hexdigest()
    return f"{platform.machine()}-{digest[:12]}"


def _trim(path, max_bytes):
    """Delete the files that were not used for longest, above a size."""
    used = sorted(_uses(path), reverse=True)
    size = 0
    for _, bytes_of_file, file in used:
        size += bytes_of_file
        if size > max_bytes:
            file.unlink(missing_ok=True)


def _uses(path: Path) -> Iterator[tuple[float, int, Path]]:
    """The time at which each file was used, and its size."""
    for file in path.rglob("*"):
        # Another process may delete it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            if file.is_file():
                last = max(status.st_atime, status.st_mtime)
                yield last, status.st_size, file
