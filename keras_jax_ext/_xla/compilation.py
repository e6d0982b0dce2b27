"""A program that is compiled in a thread: XLA works without Python's lock."""

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

import jax


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within the block, Python does not look for garbage.

    A trace makes objects by the hundred thousand and keeps them, and Python
    looks through all that it has each time their number has grown by a
    quarter: for a model of 150 layers, a quarter of the time of its trace.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
