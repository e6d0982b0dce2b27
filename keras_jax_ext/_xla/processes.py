"""Processes of one run: short texts between them, and their network's threads.

JAX's coordination service keeps the texts, which joins the processes anyway. A
collective of the devices would wait for the programs that run on them.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax


def _client() -> Any:
    # Private; replaced by: a public store of keys and values.
    from jax._src import distributed

    return distributed.global_state.client


def can_talk() -> bool:
    """Whether JAX's coordination service joins the processes."""
    return _client() is not None


def post(key: str, text: str) -> None:
    """Let every process read a text.

    Args:
        key: String, its name.
        text: String.
    """
    _client().key_value_set(key, text, allow_overwrite=True)


def wait_for(key: str, seconds: float) -> str | None:
    """Read a text as soon as a process has posted it.

    Args:
        key: String, its name.
        seconds: Float, how long to wait.

    Returns:
        The text; `None` if there was none in time.
    """
    try:
        return _client().blocking_key_value_get(key, int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def forget(folder: str) -> None:
    """Delete the texts whose keys begin with a folder's name.

    Args:
        folder: String, which ends with a slash.
    """
    _client().key_value_delete(folder)


@contextlib.contextmanager
def network_gives_way() -> Iterator[None]:
    """Within the block, threads that serve sockets do not keep others waiting.

    gloo's thread asks again and again for a message that the computation is
    not ready to take. Linux leaves it the core for a time slice of 4 ms, where
    an all-reduce of two processes of one core each takes 0.15 ms. As a batch
    thread it has the same share of the processor and is interrupted at once.
    """
    changed = [t for t in _network_threads() if _schedule(t, "SCHED_BATCH")]
    try:
        yield
    finally:
        for thread in changed:
            _schedule(thread, "SCHED_OTHER")


def _network_threads() -> list[int]:
    """Threads that wait for sockets, and are neither Python's nor named."""
    if not sys.platform.startswith("linux"):
        return []
    python = {thread.native_id for thread in threading.enumerate()}
    unnamed, found = Path("/proc/self/comm").read_text(), []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended, or is not readable
            waits = "poll" in (task / "wchan").read_text()
            named = (task / "comm").read_text() != unnamed
            if waits and not named and int(task.name) not in python:
                found.append(int(task.name))
    return found


def _schedule(thread: int, policy: str) -> bool:
    """Have the kernel schedule a thread so; whether it does."""
    try:
        os.sched_setscheduler(thread, getattr(os, policy), os.sched_param(0))
    except OSError:
        return False
    return True
