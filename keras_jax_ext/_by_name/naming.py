"""Names that are made unique by a number."""

import itertools
from collections.abc import Container, Iterator


def numbered(name: str) -> Iterator[str]:
    """`name`, `name_1`, `name_2` and so on, without end."""
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, or the first of `name_1`, `name_2`... that is not taken."""
    return next(each for each in numbered(name) if each not in taken)


def take_name(name: str, taken: set[str]) -> str:
    """As `free_name`; the result is taken then.

    Args:
        name: String.
        taken: Names that are not free; the result is added.
    """
    free = free_name(name, taken)
    taken.add(free)
    return free
