"""How an optimizer was given its transformation, and how a file keeps that."""

import inspect
from collections.abc import Mapping
from typing import Any

from keras_jax_ext._optax import saving
from keras_jax_ext._optax.lazy import optax
from keras_jax_ext._optax.transformation import (
    Transformation,
    is_transformation,
)

import jax
import keras
import numpy as np

# How to have a learning rate that can be read and set, for messages.
SETTABLE = (
    "Give the function and its learning rate apart, "
    "`kje.optimizers.OptaxOptimizer(optax.adam, learning_rate=1e-3)`, or use "
    "`optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)`."
)


def _number(value):
    """Return one number as a float, anything else as it is."""
    numbers = (int, float, np.number, np.ndarray, jax.Array)
    if isinstance(value, numbers) and np.ndim(value) == 0:
        # An integer in the state would truncate a rate that is set later.
        return float(value)
    return value


class _ReasonWithTransformation(str):
    """Why a file cannot hold a transformation, and the transformation itself.

    A config that stays in memory keeps the object: Keras copies strings as
    they are, so that `from_file` below unpacks the transformation again in
    `clone_model`, `compile_from_config` and `from_config`. A file keeps the
    text alone.
    """

    transformation: Any

    def __new__(cls, reason, transformation):
        text = super().__new__(cls, reason)
        text.transformation = transformation
        return text

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return str, (str(self),)


class Source:
    """A transformation as given: itself, or a function with its arguments.

    Args:
        transformation: The transformation, or the function that makes it.
        learning_rate: Number or schedule for the function, or `None`.
        arguments: The other arguments of the function, by name.

    Attributes:
        given: What was given as `transformation`.
        transformation: What that is, or makes.
        learning_rate: The number or schedule that the function was called
            with; `None` for a transformation, or for a function without one.
        arguments: As given.
    """

    def __init__(
        self,
        transformation: Any,
        learning_rate: Any,
        arguments: Mapping[str, Any],
    ) -> None:
        self.given = transformation
        self.learning_rate = None
        self.arguments = arguments
        self.transformation: Transformation
        if is_transformation(transformation):
            self._refuse_arguments(learning_rate)
            self.transformation = transformation
        elif callable(transformation):
            self.transformation = self._make(learning_rate)
        else:
            raise TypeError(
                "`transformation` must be an optax transformation, or a "
                f"function that makes one. Received: {transformation!r} (of "
                f"type {type(transformation)})."
            )

    @property
    def is_function(self) -> bool:
        """Whether a function was given, and not what it makes."""
        return self.given is not self.transformation

    def _refuse_arguments(self, learning_rate):
        received = dict(self.arguments)
        if learning_rate is not None:
            received["learning_rate"] = learning_rate
        if not received:
            return
        fix = SETTABLE
        if "weight_decay" in received:
            fix = (
                "Weight decay is a part of the transformation: use "
                "`optax.adamw(learning_rate, weight_decay=...)` or chain "
                "`optax.add_decayed_weights`."
            )
        raise TypeError(
            "A transformation that is already made takes no arguments. "
            f"Received: {received}. {fix}"
        )

    def _make(self, learning_rate):
        """Call the function so that its learning rate is in the state."""
        signature = inspect.signature(self.given)
        given = dict(self.arguments)
        if learning_rate is not None:
            given["learning_rate"] = _number(learning_rate)
        try:
            bound = signature.bind(**given)
        except TypeError as e:
            raise TypeError(
                f"`{_name(self.given)}` cannot be called with these arguments "
                f"({e}). Received: {given}. It takes: {signature}."
            ) from e
        bound.apply_defaults()
        rate = bound.arguments.get("learning_rate")
        if rate is None:
            made = self.given(**given)
        else:
            self.learning_rate = given["learning_rate"] = _number(rate)
            static = set(signature.parameters) - {"learning_rate"}
            made = optax.inject_hyperparams(self.given, static)(**given)
        if is_transformation(made):
            return made
        raise TypeError(
            f"`{_name(self.given)}` must return an optax transformation. "
            f"Received: {made!r} (of type {type(made)})."
        )

    def get_config(self) -> dict[str, Any]:
        """Return the entries of a config, as far as a file can hold them."""
        try:
            given = {k: saving.encode(v) for k, v in self.arguments.items()}
            if self.is_function:
                transformation = saving.encode_maker(self.given, given)
            else:
                transformation = saving.encode(self.given)
            return {
                "transformation": transformation,
                "arguments": {"dict": [*map(list, given.items())]},
                "learning_rate": saving.encode(self.learning_rate),
            }
        except saving.CannotSaveError as e:
            return {
                "transformation": None,
                "reason": _ReasonWithTransformation(
                    str(e), self.transformation
                ),
            }


def from_file(
    config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the arguments that make an `OptaxOptimizer`.

    Args:
        config: From `get_config`. It is changed.
        custom_objects: May hold the transformation, as `"optax_tx"`. Defaults
            to `None`.
    """
    reason = config.pop("reason", None)
    transformation = _entry(config, "transformation")
    if transformation is None:
        given = _asked_for(reason, custom_objects)
        return {**config, "transformation": given}
    given = _arguments(_entry(config, "arguments"))
    del config["arguments"]
    if config.keys() & given.keys():
        # An argument with the name of an entry would replace the entry, which
        # was checked.
        raise saving.refusal("the optimizer's as arguments", given)
    config["transformation"] = saving.decode_maker(transformation, given)
    config["learning_rate"] = saving.decode(_entry(config, "learning_rate"))
    return {**config, **{k: saving.decode(v) for k, v in given.items()}}


def _entry(config, name):
    if name not in config:
        raise ValueError(
            "The entry of an OptaxOptimizer in a file is damaged: it lacks "
            f"{name!r}. Received: {config}."
        )
    return config[name]


def _arguments(config):
    """Return the arguments by name, from `{"dict": [[name, JSON], ...]}`."""
    pairs: Any = config.get("dict") if isinstance(config, dict) else None
    fits = isinstance(pairs, list) and all(
        isinstance(p, (list, tuple)) and len(p) == 2 and isinstance(p[0], str)
        for p in pairs
    )
    if not fits or len(dict(pairs)) != len(pairs):
        raise ValueError(
            "The arguments of a saved optax transformation are a dict by "
            f"name. Received: arguments={config}."
        )
    return dict(pairs)


def _asked_for(reason, custom_objects):
    """Return the transformation for a config that does not describe one."""
    given = keras.saving.get_registered_object("optax_tx", custom_objects)
    if given is None:
        given = getattr(reason, "transformation", None)
    if given is None:
        raise ValueError(
            "The file has the state of an optax transformation, but not "
            f"the transformation itself. Received: {reason} Load with "
            '`custom_objects={"optax_tx": transformation}`.'
        )
    if not is_transformation(given):
        # A function would be called without the arguments it was given then.
        raise TypeError(
            "`optax_tx` must be the transformation itself, made with the "
            f"arguments that it had. Received: {given!r} (of type "
            f"{type(given)})."
        )
    return given


def _name(function):
    return getattr(function, "__name__", repr(function))
