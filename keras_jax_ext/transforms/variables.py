"""The variables of a model as a nested dict by path, and back."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._by_name.naming import take_name

import keras

# The name that Keras gives to the state of each seed generator.
_SEED = "seed_generator_state"


def is_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a seed generator."""
    return variable.name == _SEED


class Paths(NamedTuple):
    """The variables of a model, by their paths in it.

    Attributes:
        params: Dict of the variables that are trained.
        state: Dict of the others.
        seeds: Dict of the states of seed generators.
    """

    params: dict[str, keras.Variable]
    state: dict[str, keras.Variable]
    seeds: dict[str, keras.Variable]

    @classmethod
    def of(cls, model: Any) -> "Paths":
        """Read the paths of a built model.

        Args:
            model: A Keras model.

        Raises:
            ValueError: If one path is the beginning of another.
        """
        fixed = model.non_trainable_variables
        seeds = [v for v in fixed if is_seed(v)]
        state = [v for v in fixed if not is_seed(v)]
        own = _own_names(model)
        groups = model.trainable_variables, state, seeds
        return cls(*(_by_path(group, own) for group in groups))

    def values(self) -> dict[str, Any]:
        """The values of the variables now, as a nested dict."""
        return {
            name: nested({p: v.value for p, v in group.items()})
            for name, group in self._groups()
        }

    def pairs(self, tree: Any) -> list[tuple[keras.Variable, Any]]:
        """Pair each variable with its value in a nested dict.

        Args:
            tree: Nested dict, as `values` returns it.

        Raises:
            ValueError: If a value is missing, unknown, or of another shape.
        """
        given = dict(_flat(tree))
        asked = {
            f"{name}/{path}": variable
            for name, group in self._groups()
            for path, variable in group.items()
        }
        _check(given, asked)
        return [(variable, given[path]) for path, variable in asked.items()]

    def _groups(self):
        return ("params", self.params), ("state", self.state)


def _own_names(model):
    """The names that the paths of a model's variables may begin with.

    Those of a functional model begin with the names of its layers.
    """
    if isinstance(model, _keras.Functional):
        return ()
    return model.name, _keras.to_snake_case(type(model).__name__)


def _by_path(variables, own):
    """Variables by path, numbered where they share one."""
    taken: set[str] = set()
    paths = {}
    for variable in variables:
        first, _, rest = variable.path.partition("/")
        # Without its own name a model exchanges variables with others.
        short = rest if rest and first in own else variable.path
        paths[take_name(short, taken)] = variable
    for path in paths:
        if any(other.startswith(f"{path}/") for other in paths):
            raise ValueError(
                "A variable cannot have a path that leads to others. "
                f"Received: {path!r}. Give the layer another name."
            )
    return paths


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a dict by paths `"a/b"` into nested dicts.

    Args:
        flat: Dict by path.
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return tree


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of nested dicts with its path."""
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for name, value in tree.items():
        yield from _flat(value, f"{path}/{name}" if path else str(name))


def _check(given, asked):
    missing = sorted(asked.keys() - given.keys())
    unknown = sorted(given.keys() - asked.keys())
    if missing or unknown:
        raise ValueError(
            "Variables are a dict with a value for each variable of the "
            f"model. Received: {_listed('missing', missing)}"
            f"{' and ' if missing and unknown else ''}"
            f"{_listed('unknown', unknown)}. Begin with those that "
            "`functional(model)` returns."
        )
    for path, variable in asked.items():
        shape = tuple(getattr(given[path], "shape", ()))
        if shape != tuple(variable.shape):
            raise ValueError(
                "A value has the shape of its variable. Received: shape "
                f"{shape} for {path!r}, which has shape "
                f"{tuple(variable.shape)}. Use `jax.vmap` for stacked values."
            )


def _listed(what, paths):
    if not paths:
        return ""
    shown = [*paths[:5], *["..."] * (len(paths) > 5)]
    return f"{what} {shown}"
