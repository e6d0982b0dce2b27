"""A file that several processes ask for is written by one of them."""

import json
import os
from collections.abc import Callable

from keras_jax_ext._loop.agreement import agreement
from keras_jax_ext._loop.parts import alone
from keras_jax_ext._xla import processes

# Seconds after which a process writes a file that the first does not ask for.
PATIENCE_SECONDS = 60.0


def write_once(
    filepath: str | os.PathLike[str], write: Callable[[], None]
) -> None:
    """Write a file in the first process; in others, wait until it is there.

    A path that the first does not write, or that it writes alone, is written
    as in a single process: it waits for nobody.

    Args:
        filepath: Path of the file.
        write: Function that writes it.

    Raises:
        OSError: In all processes, if it cannot be written.
    """
    agreed = agreement()
    if agreed is None:
        write()
        return
    path = os.fspath(filepath)
    begun, ended = agreed.turn("begun"), agreed.turn("ended")
    if not agreed.is_first:
        if agreed.wait_for(begun, PATIENCE_SECONDS) != path:
            with alone():
                write()
        else:
            _raise(path, agreed.wait_for(ended))
        return
    said = "the process has ended"
    processes.post(begun, json.dumps(path))
    try:
        with alone():
            write()
        said = ""
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
        raise
    finally:
        processes.post(ended, json.dumps(said))


def _raise(path, failure):
    if failure:
        raise OSError(
            "The first of several processes writes a file for all. Received: "
            f"{path}, and there {failure}. Mend it there."
        )
