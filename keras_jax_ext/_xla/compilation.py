"""A program that is compiled in a thread: XLA works without Python's lock."""

import contextlib
import threading
from typing import Any


class Compilation:
    """A program that is being compiled, for the calls that will want it.

    JAX keeps what it compiles with the lowered program, which it finds again
    for a call of the same function and shapes.

    Args:
        lowered: `jax.stages.Lowered`.
    """

    def __init__(self, lowered: Any) -> None:
        # No daemon: Python must not end while XLA runs.
        self._thread = threading.Thread(
            target=_compile, args=(lowered,), name="keras_jax_ext compiles"
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for its end; a Ctrl-C ends the wait."""
        self._thread.join()


def _compile(lowered):
    # What fails here fails again in the call, which raises it.
    with contextlib.suppress(Exception):
        lowered.compile()
