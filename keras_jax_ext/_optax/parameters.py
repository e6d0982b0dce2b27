"""The variables of a model as the tree that optax sees, and back."""

import re
from typing import Any

import jax
from jax.tree_util import DictKey


class PathPart(str):
    """A part of a variable's path whose numbers sort as numbers.

    JAX visits a dict in the order of its keys, and `"dense_10"` sorts before
    `"dense_9"`: what optax flattens, or draws random numbers for, would be in
    another order when automatic names pass nine. Equal to the plain string.
    """

    __slots__ = ("sort_key",)
    sort_key: list

    def __new__(cls, text):
        part = super().__new__(cls, text)
        pieces = re.split(r"(\d+)", text)
        part.sort_key = [int(p) if i % 2 else p for i, p in enumerate(pieces)]
        return part

    def __lt__(self, other):
        if not isinstance(other, PathPart):
            other = PathPart(other)
        return self.sort_key < other.sort_key


def _unique_paths(variables, part):
    """Paths as tuples of parts, none equal to or the beginning of another."""
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
    """Nested dict with the index of each path at its leaf."""
    tree: dict = {}
    for index, (*folders, last) in enumerate(paths):
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = index
    return tree


class Parameters:
    """Conversion between lists of one value a variable and nested dicts.

    A variable of path `"dense/kernel"` is at `tree["dense"]["kernel"]`. Of two
    equal paths the second one gets `_1`; so does a path that another one
    continues (`"a"` beside `"a/b"`).

    Args:
        variables: List of variables.
        part: Class of the keys: `PathPart`, or `str` for the order of a dict
            that a user wrote. Defaults to `PathPart`.
    """

    def __init__(self, variables, part=PathPart):
        self.variables = list(variables)
        self.paths = _unique_paths(self.variables, part)
        order, treedef = jax.tree.flatten(_nest(self.paths))
        self._order: list[int] = order
        self._treedef: Any = treedef
        self._index = {path: i for i, path in enumerate(self.paths)}
        self._lengths = sorted({len(p) for p in self.paths}, reverse=True)

    def tree(self, values):
        """Nested dict of values given in the order of the variables."""
        return self._treedef.unflatten([values[i] for i in self._order])

    def values(self, tree):
        """List in the order of the variables from a nested dict."""
        leaves = self._treedef.flatten_up_to(tree)
        of = dict(zip(self._order, leaves, strict=True))
        return [of[i] for i in range(len(leaves))]

    def locate(self, key_path):
        """Find a variable's path within a JAX key path.

        Returns:
            `(index, rest)`: the index of the variable, `None` without one, and
            what is left of the key path.
        """
        keys = [k.key if isinstance(k, DictKey) else None for k in key_path]
        for length in self._lengths:
            for start in range(len(keys) - length + 1):
                index = self._index.get(tuple(keys[start : start + length]))
                if index is not None:
                    rest = key_path[:start] + key_path[start + length :]
                    return index, rest
        return None, key_path
