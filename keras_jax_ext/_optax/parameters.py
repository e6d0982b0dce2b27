"""The variables of a model as the tree that optax sees, and back."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import keras
from jax.tree_util import DictKey


class PathPart(str):
    """A part of a variable's path whose numbers sort as numbers.

    JAX visits a dict in the order of its keys, and `"dense_10"` sorts before
    `"dense_9"`: the order in which optax flattens, or draws random numbers,
    would change when automatic names pass nine. Equal to the plain string.
    """

    __slots__ = ("sort_key",)
    sort_key: list[int | str]

    def __new__(cls, text: str) -> "PathPart":
        part = super().__new__(cls, text)
        pieces = re.split(r"(\d+)", text)
        part.sort_key = [int(p) if i % 2 else p for i, p in enumerate(pieces)]
        return part

    def __lt__(self, other: str) -> bool:
        if not isinstance(other, PathPart):
            other = PathPart(other)
        return self.sort_key < other.sort_key


def _unique_paths(variables, part):
    """Split paths into tuples; none equals or begins another one."""
    paths = [tuple(map(part, v.path.split("/"))) for v in variables]
    folders = {p[:i] for p in paths for i in range(1, len(p))}
    taken: set = set()
    result = []
    for path in paths:
        candidate, count = path, 0
        while candidate in taken or candidate in folders:
            count += 1
            candidate = (*path[:-1], part(f"{path[-1]}_{count}"))
        taken.add(candidate)
        result.append(candidate)
    return result


def _nest(paths):
    """Make a nested dict with the index of each path at its leaf."""
    tree: dict = {}
    for index, (*folders, last) in enumerate(paths):
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = index
    return tree


class Parameters:
    """Turns lists of one value for each variable into nested dicts, and back.

    The value of the variable `"dense/kernel"` is `tree["dense"]["kernel"]`. If
    two paths are equal, the second one gets `_1`; so does a path that begins
    another one (`"a"` beside `"a/b"`).

    Args:
        variables: The variables.
        part: Class of the keys: `PathPart`, or `str` for the order of a dict
            that a user wrote. Defaults to `PathPart`.

    Attributes:
        paths: The path of each variable, as a tuple of keys.
        order: Indices of the variables in the order in which JAX visits them.
    """

    def __init__(
        self, variables: Sequence[keras.Variable], part: type[str] = PathPart
    ) -> None:
        self.variables = list(variables)
        self.paths = _unique_paths(self.variables, part)
        order, treedef = jax.tree.flatten(_nest(self.paths))
        self.order: list[int] = order
        self._treedef: Any = treedef
        self._index = {path: i for i, path in enumerate(self.paths)}
        self._lengths = sorted({len(p) for p in self.paths}, reverse=True)

    def tree(self, values: Sequence[Any]) -> Any:
        """Return the nested dict of values in the order of the variables."""
        return self._treedef.unflatten([values[i] for i in self.order])

    def values(self, tree: Any) -> list[Any]:
        """Return the values of a nested dict in the order of the variables."""
        leaves = self._treedef.flatten_up_to(tree)
        by_index = dict(zip(self.order, leaves, strict=True))
        return [by_index[i] for i in range(len(leaves))]

    def locate(
        self, key_path: tuple[Any, ...]
    ) -> tuple[int | None, tuple[Any, ...]]:
        """Find a variable's path within a JAX key path.

        Args:
            key_path: The key path of a leaf of a state.

        Returns:
            Index of the variable, `None` without one, and the key path without
            the variable's own keys.
        """
        keys = [k.key if isinstance(k, DictKey) else None for k in key_path]
        for length in self._lengths:
            for start in range(len(keys) - length + 1):
                index = self._index.get(tuple(keys[start : start + length]))
                if index is not None:
                    rest = key_path[:start] + key_path[start + length :]
                    return index, rest
        return None, key_path
