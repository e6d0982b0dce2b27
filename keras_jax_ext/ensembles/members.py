"""Makes the members: each as its user would make it alone."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._xla import purity
from keras_jax_ext.ensembles.stack import Stack
from keras_jax_ext.models import extend

import jax
import jax.numpy as jnp
import keras
import numpy as np


class Members:
    """The members: one of them, which is traced, and the variables of all.

    Args:
        build: Function that returns a model, of no argument or of a seed.
        seeds: Integers.

    Attributes:
        seeds: List of integers.
        model: The member that is traced.
        stack: `Stack` of the variables of all.
        alone: What each of them was made under.
    """

    def __init__(self, build: Callable[..., Any], seeds: Sequence[int]) -> None:
        self._build = build
        self._call = _with_seed(build)
        self.seeds = list(seeds)
        self.alone = [_keras.Alone(seed) for seed in seeds]
        # Each as its user would make it, one after another, until their
        # variables are stacked and their computations compared.
        self._models = [self._made(alone) for alone in self.alone]
        check_apart(self._models)
        self.model = self._models[0]
        self.stack = Stack(len(self.seeds))
        self.are_built = False
        self._inputs: Any = None
        if all(map(_keras.is_built, self._models)):
            self._stack_up()
            known = _known_inputs(self.model)
            if known is not None:
                self._compare(known)

    def __len__(self) -> int:
        return len(self.seeds)

    def build(self, x: Any) -> None:
        """Make what variables are missing.

        Args:
            x: Structure of inputs, or of `keras.KerasTensor`s.
        """
        if self.are_built and not self._models:
            return
        inputs = keras.tree.map_structure(_symbol, x)
        if not self.are_built:
            for model, alone in zip(self._models, self.alone, strict=True):
                self._build_one(model, alone, inputs)
            check_apart(self._models)
            self._stack_up()
        self._inputs = inputs
        self._compare(inputs)

    def trust(self) -> None:
        """Compare no computations: all members are of one config."""
        if self.are_built:
            self._models = []

    def copy(self, i: int) -> Any:
        """Make member `i` as a model of its own, with the weights it has."""
        alone = _keras.Alone(self.seeds[i])
        model = self._made(alone)
        self._build_one(model, alone, self._inputs)
        check_alike([self.model, model])
        twins = self.stack.of(self.model.variables)
        for variable, twin in zip(model.variables, twins, strict=True):
            variable.assign(twin.value[i])
        return model

    def _made(self, alone):
        with alone.running():
            model = self._call(alone.seed)
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`build` returns a model. Received: "
                f"{model!r} (of type {type(model).__name__}) from build="
                f"{self._build!r}. End it with `return model`."
            )
        return extend(model)

    def _build_one(self, model, alone, inputs):
        if not _keras.is_built(model):
            with alone.running():
                _keras.build_layers(model, inputs)

    def _stack_up(self):
        check_alike(self._models)
        variables = [model.variables for model in self._models]
        self.stack.add(
            variables[0],
            [
                jnp.stack([v.value for v in each])
                for each in zip(*variables, strict=True)
            ],
        )
        self.are_built = True

    def _compare(self, inputs):
        check_computing_alike(self._models, inputs)
        self._models = []


def _symbol(array):
    return keras.KerasTensor(
        array.shape, keras.backend.standardize_dtype(array.dtype)
    )


def _known_inputs(model):
    """The inputs of a functional model; `None` if some size is unknown."""
    if isinstance(model, keras.Sequential):
        (given,) = model.inputs
    elif isinstance(model, _keras.Functional):
        given = model.input
    else:
        return None
    if any(None in leaf.shape[1:] for leaf in keras.tree.flatten(given)):
        return None
    return keras.tree.map_structure(
        lambda leaf: keras.KerasTensor((2, *leaf.shape[1:]), leaf.dtype), given
    )


def _with_seed(build):
    """`build` as a function of the seed, which it may ignore."""
    if not callable(build) or isinstance(build, keras.Model):
        raise TypeError(
            "An ensemble is made of a function that returns a new model at "
            f"each call. Received: build={build!r} (of type "
            f"{type(build).__name__}). Give one: `Ensemble(lambda: Net(), 8)`."
        )
    parameters = inspect.signature(build).parameters
    required = [
        p.name
        for p in parameters.values()
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(required) > 1:
        raise TypeError(
            "`build` takes no argument, or the seed of a member. Received: "
            f"build={build!r}, which requires {required}. Bind the others: "
            "`lambda: build(...)`."
        )
    if "seed" in parameters:
        return lambda seed: build(seed=seed)
    return build if required else lambda seed: build()


def check_apart(models: Sequence[Any]) -> None:
    """Raise if two members are one, or share a variable."""
    owners: dict[int, int] = {}
    for i, model in enumerate(models):
        for each in (model, *model.variables):
            first = owners.setdefault(id(each), i)
            if first != i:
                what = "model" if each is model else f"variable {each.path!r}"
                raise ValueError(
                    "`build` returns a new model at each call, with layers of "
                    f"its own. Received: the same {what} for members {first} "
                    f"and {i}. Make the layers within `build`."
                )


def check_alike(models: Sequence[Any]) -> None:
    """Raise if members have variables of other shapes or types."""
    first = _variables(models[0])
    for i, model in enumerate(models):
        found = _variables(model)
        if found != first:
            pairs = zip(found, first, strict=False)
            other = next((p for p in pairs if p[0] != p[1]), None)
            raise _unlike(
                i,
                f"{other[0]}, which member 0 has as {other[1]}"
                if other
                else f"{len(found)} variables, where member 0 has {len(first)}",
            )


def _variables(model):
    return [
        (v.name, tuple(v.shape), str(v.dtype), bool(v.trainable))
        for v in model.variables
    ]


def check_computing_alike(models: Sequence[Any], x: Any) -> None:
    """Raise if members do not compute the same from their variables.

    Args:
        models: Built models.
        x: Structure of `keras.KerasTensor`s with sizes.
    """
    first = _traced(models[0], x)
    for i, model in enumerate(models[1:], 1):
        if not purity.same(_traced(model, x), first):
            raise _unlike(i, "a `call` that computes something else")


def _traced(model, x):
    groups = model.trainable_variables, model.non_trainable_variables
    variables = [[_shape(v) for v in group] for group in groups]
    structure: Any
    leaves, structure = jax.tree.flatten((variables, jax.tree.map(_shape, x)))

    def call(*given):
        (trainable, others), inputs = structure.unflatten(given)
        return model.stateless_call(trainable, others, inputs, training=True)

    return purity.trace(call, leaves)


def _shape(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _unlike(i, received):
    return ValueError(
        "The members of an ensemble differ in the values of their variables "
        "alone: one program trains all. Received: member "
        f"{i} with {received}. Build the same layers whatever the seed is."
    )


def checked_seeds(n: Any, seeds: Any) -> list[int]:
    """The seeds of `n` members."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(
            "An ensemble has at least one member. Received: "
            f"n={n!r} (of type {type(n).__name__}). Give a positive integer."
        )
    every = list(range(n)) if seeds is None else list(seeds)
    whole = all(
        isinstance(s, (int, np.integer)) and not isinstance(s, bool)
        for s in every
    )
    if len(every) != n or not whole:
        raise ValueError(
            "`seeds` holds an integer for each member. Received: "
            f"seeds={seeds!r} for {n} members. Leave it out for `range({n})`."
        )
    return [int(s) for s in every]
