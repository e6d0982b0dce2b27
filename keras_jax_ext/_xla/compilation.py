"""A program that is compiled in a thread: XLA works without Python's lock."""

import contextlib
import threading
from typing import Any

import jax


class Compilation:
    """A program that is being compiled, for the calls that will want it.

    JAX keeps what it compiles with the lowered program, which it finds again
    for a call of the same function and shapes.

    Args:
        lowered: `jax.stages.Lowered`.
    """

    def __init__(self, lowered: Any) -> None:
        config: Any = jax.config
        # No daemon: Python must not end while XLA runs.
        self._thread = threading.Thread(
            target=_compile,
            args=(lowered, config.jax_log_compiles),
            name="keras_jax_ext compiles",
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for its end; a Ctrl-C ends the wait."""
        self._thread.join()


def _compile(lowered, logs):
    # What fails here fails again in the call, which raises it. To log is a
    # setting of the thread that asked for it.
    with contextlib.suppress(Exception), jax.log_compiles(logs):
        lowered.compile()
