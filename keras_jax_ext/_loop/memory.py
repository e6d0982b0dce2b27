"""How much memory data may take."""

import functools
import os
from pathlib import Path
from typing import Any

import jax

# Where Linux says what a container may use: version 2 of its groups, and 1.
LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def fits(data: Any, fraction: float) -> bool:
    """Whether arrays take at most a fraction of the device's memory.

    Those of JAX are there already and take nothing.
    """
    needed = sum(
        a.nbytes for a in jax.tree.leaves(data) if not isinstance(a, jax.Array)
    )
    stats = jax.devices()[0].memory_stats() or {}
    total = stats.get("bytes_limit")
    if total is None:  # A CPU does not say.
        return needed <= fraction * host_memory()
    free = total - stats.get("bytes_in_use", 0)
    return needed <= min(fraction * total, free)


@functools.cache
def host_memory() -> float:
    """Bytes of memory that this process may use, as far as is known."""
    found = [float("inf")]  # the data are there, after all
    try:
        pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        found.append(pages[0] * pages[1])
    except (AttributeError, OSError, ValueError):  # as on Windows
        pass
    for path in LIMITS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or it says "max"
            continue
    return min(found)
