"""Dataclasses among the outputs of a model."""

import dataclasses
from typing import Any

import jax
import optree


def register_dataclasses(structure: Any) -> None:
    """Let JAX and `keras.tree` look into the dataclasses of a structure.

    Args:
        structure: Nested dicts, lists, tuples and dataclasses.
    """
    children: Any
    if isinstance(structure, dict):
        children = structure.values()
    elif isinstance(structure, (list, tuple)):
        children = structure
    elif dataclasses.is_dataclass(structure) and not isinstance(
        structure, type
    ):
        _register(structure)
        children = [getattr(structure, n) for n in _names(structure)]
    else:
        return
    for child in children:
        register_dataclasses(child)


def _names(instance):
    return [field.name for field in dataclasses.fields(instance)]


def _register(instance):
    cls, names = type(instance), _names(instance)

    def flatten(value):
        return [getattr(value, name) for name in names], None

    def unflatten(_, children):
        # Not by the constructor, which may check values: a trace has none.
        value = object.__new__(cls)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(value, name, child)
        return value

    if jax.tree_util.all_leaves([instance]):
        jax.tree_util.register_pytree_node(cls, flatten, unflatten)
    # The namespace is Keras's own; replaced by: a public registration.
    if optree.tree_is_leaf(instance, namespace="keras"):
        optree.register_pytree_node(
            cls, flatten, lambda *a: unflatten(*a), namespace="keras"
        )
