"""Let a public module of ours answer for the names of Keras's module too."""

from collections.abc import Callable
from types import ModuleType
from typing import Any


def mirror(
    own: dict[str, Any], stock: ModuleType
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a module of ours.

    Args:
        own: `globals()` of the module; its own names come first.
        stock: The module of Keras whose names it answers for.
    """

    def find(name: str) -> Any:
        if name.startswith("_") or not hasattr(stock, name):
            raise AttributeError(
                f"module {own['__name__']!r} has no attribute {name!r}"
            )
        return getattr(stock, name)

    def names() -> list[str]:
        return sorted({*own.get("__all__", own), *dir(stock)})

    return find, names
