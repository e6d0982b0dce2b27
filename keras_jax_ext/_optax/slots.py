"""The state of a transformation as variables of a Keras optimizer."""

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._optax.parameters import Parameters

import jax
import jax.numpy as jnp
import keras
from jax.tree_util import DictKey, GetAttrKey


class Slot(NamedTuple):
    """One leaf of the state, before it has a variable."""

    value: jax.Array
    path: tuple[Any, ...]  # of JAX's keys
    owner: int | None  # index of the model's variable that it belongs to
    role: tuple[Any, ...]  # the path without the owner's: `mu`, `nu`
    key_impl: Any  # of a typed PRNG key, which is stored as its data; or None


def _slot(path, leaf, parameters):
    impl = None
    if hasattr(leaf, "dtype") and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
        impl, leaf = jax.random.key_impl(leaf), jax.random.key_data(leaf)
    try:
        leaf = jnp.asarray(leaf)
        # Copied, because initial states share buffers with the parameters and
        # with each other, and a buffer cannot be donated twice. With a dtype,
        # because a weakly typed leaf makes the second step compile again.
        value = jnp.array(leaf, dtype=leaf.dtype, copy=True)
    except (TypeError, ValueError) as e:
        raise TypeError(
            "The state of an optax transformation can only hold arrays. "
            f"Received: {jax.tree_util.keystr(path)}={leaf!r} (of type "
            f"{type(leaf)})."
        ) from e
    owner, role = parameters.locate(path)
    return Slot(value, path, owner, role, impl)


def _words(keys):
    """Yield the names in a key path, without its positions."""
    for key in keys:
        if isinstance(key, GetAttrKey):
            yield key.name
        elif isinstance(key, DictKey):
            yield re.sub(r"\W+", "_", str(key.key))


class Slots:
    """Variables that hold a state, one for each leaf.

    Keras saves an optimizer's variables by position. Leaves that belong to the
    model's variables are therefore created in the order of these, and not in
    the order of their names, which changes when numbers pass nine.

    Args:
        state: Tree of arrays.
        parameters: The model's variables.
    """

    def __init__(self, state: Any, parameters: Parameters) -> None:
        leaves, treedef = jax.tree_util.tree_flatten_with_path(state)
        self.treedef: Any = treedef
        self.parameters = parameters
        self.slots = [_slot(*pair, parameters) for pair in leaves]
        self.variables: list[keras.Variable] = []  # in the order of the leaves

    def create(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Add the variables to `optimizer`."""
        # The first leaf of each role.
        groups = {s.role: i for i, s in reversed(list(enumerate(self.slots)))}
        order = sorted(
            range(len(self.slots)),
            key=lambda i: (
                groups[self.slots[i].role],
                -1 if self.slots[i].owner is None else self.slots[i].owner,
            ),
        )
        names = self._names(order)
        made = {i: self._variable(optimizer, i, names[i]) for i in order}
        self.variables = [made[i] for i in range(len(self.slots))]
        # The variables hold the values now, and the copies take memory.
        self.slots = [slot._replace(value=None) for slot in self.slots]

    def _names(self, order):
        names, taken = {}, set()
        for i in order:
            slot = self.slots[i]
            words = list(_words(slot.role)) or ["state"]
            if slot.owner is not None:
                words = [*self.parameters.paths[slot.owner], *words]
            base = name = "_".join(words)
            repeats = 0
            while name in taken:
                repeats += 1
                name = f"{base}_{repeats}"
            taken.add(name)
            names[i] = name
        return names

    def _variable(self, optimizer, index, name):
        value, owner = self.slots[index].value, self.slots[index].owner
        like = None if owner is None else self.parameters.variables[owner]
        layout = _keras.layout_for(value.shape, like)

        def initializer(shape, dtype=None):
            return value

        variable = optimizer.add_variable(
            shape=value.shape,
            # Keras compiles initializers of what several devices share, which
            # would make the value a constant of a program.
            initializer=initializer if layout is None else "zeros",
            dtype=value.dtype.name,
            layout=layout,
            name=name,
        )
        if layout is not None:
            variable.assign(value)
        return variable

    def read(self) -> Any:
        """Return the state."""
        values = [
            v.value
            if slot.key_impl is None
            else jax.random.wrap_key_data(v.value, impl=slot.key_impl)
            for v, slot in zip(self.variables, self.slots, strict=True)
        ]
        return self.treedef.unflatten(values)

    def write(self, state: Any, *, untouched: Collection[int] = ()) -> None:
        """Assign a state.

        Args:
            state: Tree of arrays.
            untouched: Indices of model variables whose slots stay as they
                are. Defaults to none.
        """
        leaves = self.treedef.flatten_up_to(state)
        for variable, slot, leaf in zip(
            self.variables, self.slots, leaves, strict=True
        ):
            if slot.owner is not None and slot.owner in untouched:
                continue
            if slot.key_impl is not None:
                leaf = jax.random.key_data(leaf)
            variable.assign(leaf)

    def find(self, *names: str) -> list[Any]:
        """Return the variables whose key path ends with `names`.

        Positions in tuples and lists do not count. Before `create`, there is
        a `None` for each variable.
        """
        variables: list[Any] = self.variables or [None] * len(self.slots)
        return [
            variable
            for variable, slot in zip(variables, self.slots, strict=True)
            if tuple(_words(slot.path))[-len(names) :] == names
        ]
