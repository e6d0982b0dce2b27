"""Objects that find their variables, as `tf.Module`."""

from collections.abc import Callable, Iterator
from typing import Any

from keras_jax_ext import _keras

import keras


class Module:
    """An object that knows the variables of its attributes.

    For classes that derived from `tf.Module`: variables, layers and other
    modules are found in attributes, and in lists, tuples and dicts of them.

    Example:

    ```python
    class Line(kje.keras2.Module):
        def __init__(self):
            super().__init__()
            self.slope = keras.Variable(2.0)

        def __call__(self, x):
            return self.slope * x

    len(Line().trainable_variables)  # 1
    ```

    Args:
        name: String. Defaults to `None`, the name of the class in snake case.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or _keras.to_snake_case(type(self).__name__)

    @property
    def variables(self) -> list[keras.Variable]:
        """List of all variables, by the names of the attributes."""
        return self._found(False)

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """List of the variables that are trained."""
        return self._found(True)

    @property
    def submodules(self) -> tuple[Any, ...]:
        """Tuple of the modules and layers within, at any depth."""
        found: list[Any] = []
        for leaf in _leaves(self):
            if isinstance(leaf, Module):
                found += [leaf, *leaf.submodules]
            elif isinstance(leaf, keras.Layer):
                found.append(leaf)
        return tuple(found)

    @classmethod
    def with_name_scope(cls, method: Callable[..., Any]) -> Callable[..., Any]:
        """The same method: there are no scopes of names.

        Args:
            method: A method of the class.
        """
        return method

    def _found(self, trainable: bool) -> list[keras.Variable]:
        found: dict[int, keras.Variable] = {}
        for leaf in _leaves(self):
            if isinstance(leaf, keras.Variable):
                held = [leaf] if leaf.trainable or not trainable else []
            elif isinstance(leaf, (Module, keras.Layer)):
                held = leaf.trainable_variables if trainable else leaf.variables
            else:
                held = []
            found |= {id(each): each for each in held}
        return list(found.values())


def _leaves(module: Module) -> Iterator[Any]:
    """What the attributes of a module hold, by their names."""
    for _, value in sorted(vars(module).items()):
        yield from keras.tree.flatten(value)
