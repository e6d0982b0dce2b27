"""Structures of data that JAX and Keras are to look into."""

import dataclasses
from collections.abc import Callable
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

    for_jax = jax.tree_util.all_leaves([instance])
    for_keras = optree.tree_is_leaf(instance, namespace="keras")
    register_node(cls, flatten, unflatten, for_jax=for_jax, for_keras=for_keras)


def register_node(
    cls: type,
    flatten: Callable[[Any], tuple[Any, Any]],
    unflatten: Callable[[Any, Any], Any],
    *,
    for_jax: bool = True,
    for_keras: bool = True,
) -> None:
    """Let JAX and `keras.tree` look into the instances of a class.

    Args:
        cls: The class.
        flatten: Function from an instance to its children, and what else
            `unflatten` needs, hashable.
        unflatten: Function of the two, in the other order.
        for_jax: Boolean, whether JAX is told. Defaults to `True`.
        for_keras: Boolean, whether Keras is told. Defaults to `True`.
    """
    if for_jax:
        jax.tree_util.register_pytree_node(cls, flatten, unflatten)
    if for_keras:
        # The namespace is Keras's own; replaced by: a public registration.
        optree.register_pytree_node(
            cls, flatten, lambda *a: unflatten(*a), namespace="keras"
        )
