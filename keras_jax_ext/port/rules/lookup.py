"""A dotted name of TensorFlow or Keras 2, looked up in the tables."""

from typing import NamedTuple

from keras_jax_ext.port import exports
from keras_jax_ext.port.tables.left import LEFT
from keras_jax_ext.port.tables.names import MODULES, MOVED, VALUES
from keras_jax_ext.port.tables.operations import OPERATIONS, Row


class Found(NamedTuple):
    """What a name became.

    Attributes:
        name: The dotted name that it has now, or `None`.
        value: What stands in its place, if that is no name.
        row: Row of the table of operations, for those.
        reason: Why it is left, where nothing was found.
        recipe: What to do by hand.
    """

    name: str | None = None
    value: str | None = None
    row: Row | None = None
    reason: str = ""
    recipe: str = ""


def find(name: str) -> Found:
    """Look up a dotted name, or the longest beginning that is known."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        beginning, rest = ".".join(parts[:size]), parts[size:]
        found = _whole(beginning)
        if found is None:
            continue
        if not rest:
            return found
        if found.name and not exports.is_module(found.name) and not found.row:
            return found._replace(name=".".join([found.name, *rest]))
        break
    return _left(name)


def _whole(name: str) -> Found | None:
    if name in LEFT:  # it may exist, and need TensorFlow
        return None
    if name in VALUES:
        return Found(value=VALUES[name])
    if name in MOVED:
        return Found(name=MOVED[name])
    if name in OPERATIONS:
        return Found(name=OPERATIONS[name].target, row=OPERATIONS[name])
    if name.startswith("keras"):
        if exports.exists(name):
            return Found(name=name)
        module, _, member = name.rpartition(".")
        moved = MODULES.get(module)
        if f"{moved}.{member}" in LEFT:
            return None
        if moved and exports.exists(f"{moved}.{member}"):
            return Found(name=f"{moved}.{member}")
        if name in MODULES:
            return Found(name=MODULES[name])
    return None


def _left(name: str) -> Found:
    module, dot, member = name.rpartition(".")
    name = f"{MODULES.get(module, module)}{dot}{member}"
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        beginning = ".".join(parts[:size])
        if beginning in LEFT:
            reason, recipe = LEFT[beginning]
            return Found(reason=reason, recipe=recipe)
    owner = "Keras 3" if parts[0] == "keras" else "the tool's table"
    return Found(
        reason=f"{owner} has no `{name}`",
        recipe="use a function of keras.ops, keras.layers or jax.numpy",
    )
