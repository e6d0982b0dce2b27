"""Where a transformation and its learning rate come from."""

import inspect
from typing import Any

from keras_jax_ext._optax import recording, saving
from keras_jax_ext._optax.bridge import is_transformation
from keras_jax_ext._optax.lazy import optax

import jax
import keras
import numpy as np

# Where `optax.inject_hyperparams` keeps it in its state.
RATE = ("hyperparams", "learning_rate")
SCHEDULED_RATE = ("hyperparams_states", "learning_rate", "count")
SETTABLE_RATE = (
    "Give the function and its learning rate apart, "
    "`kje.optimizers.OptaxOptimizer(optax.adam, learning_rate=1e-3)`, or use "
    "`optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)`."
)


def _number(value):
    """A float for what is one number, else `value` as it is."""
    numbers = (int, float, np.number, np.ndarray, jax.Array)
    if isinstance(value, numbers) and np.ndim(value) == 0:
        # An integer in the state would truncate what is set later.
        return float(value)
    return value


class _Held(str):
    """Why a file cannot hold a transformation; a config in memory can.

    Keras passes strings on as they are, so that `clone_model` and
    `compile_from_config` find the transformation. A file gets the text.
    """

    transformation: Any

    def __new__(cls, reason, transformation):
        held = super().__new__(cls, reason)
        held.transformation = transformation
        return held

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return str, (str(self),)


class Source:
    """A transformation as given: itself, or a function with its arguments."""

    def __init__(self, transformation, learning_rate, arguments):
        self.given = transformation
        self.learning_rate = None
        self.arguments = arguments
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
    def is_function(self):
        return self.given is not self.transformation

    def _refuse_arguments(self, learning_rate):
        received = dict(self.arguments)
        if learning_rate is not None:
            received["learning_rate"] = learning_rate
        if not received:
            return
        fix = SETTABLE_RATE
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
        """Call the function, with its learning rate in the state."""
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

    def rate_at(self, count):
        """The learning rate as given, after `count` updates, if known."""
        rate = self._given_rate()
        if callable(rate):
            return None if count is None else rate(count)
        return rate

    def _given_rate(self):
        if self.learning_rate is not None:
            return self.learning_rate
        rates = recording.learning_rates(recording.recipe_of(self.given))
        return rates[0] if len(rates) == 1 else None

    def get_config(self):
        """What a file keeps, as far as a file can."""
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
                "reason": _Held(str(e), self.transformation),
            }

    def check_settable(self, learning_rate, slots=None):
        """Raise if a learning rate cannot be set to `learning_rate`."""
        if callable(learning_rate):
            why, fix = "to a schedule", "Give the schedule to the constructor."
        elif callable(self._given_rate()) or (
            slots is not None and slots.find(*SCHEDULED_RATE)
        ):
            why = "of a schedule"
            fix = f"Give a number in its place. {SETTABLE_RATE}"
        elif slots is not None and len(slots.find(*RATE)) > 1:
            why, fix = "of several", "Assign to `optimizer.variables`."
        elif slots is not None and not slots.find(*RATE):
            why, fix = "that is a constant", SETTABLE_RATE
        else:
            return
        raise ValueError(
            f"The learning rate of this optimizer, {why}, cannot be set. "
            f"Received: learning_rate={learning_rate}, "
            f"transformation={self.given}. {fix}"
        )


def from_file(config, custom_objects=None):
    """The arguments that make an `OptaxOptimizer`, from `get_config`."""
    reason = config.pop("reason", None)
    transformation = _entry(config, "transformation")
    if transformation is None:
        given = _asked_for(reason, custom_objects)
        return {**config, "transformation": given}
    given = _arguments(_entry(config, "arguments"))
    del config["arguments"]
    if config.keys() & given.keys():
        # One of the file's own could take the place of what was checked.
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
    """The JSON of arguments by name, from `{"dict": [[name, JSON], ...]}`."""
    pairs: Any = config.get("dict") if isinstance(config, dict) else None
    fits = isinstance(pairs, list) and all(
        isinstance(p, (list, tuple)) and len(p) == 2 and isinstance(p[0], str)
        for p in pairs
    )
    if not fits:
        raise ValueError(
            "The arguments of a saved optax transformation are a dict by "
            f"name. Received: arguments={config}."
        )
    return dict(pairs)


def _asked_for(reason, custom_objects):
    """The transformation for a config without one."""
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
        # A function would be called without the arguments it had.
        raise TypeError(
            "`optax_tx` must be the transformation itself, made with the "
            f"arguments that it had. Received: {given!r} (of type "
            f"{type(given)})."
        )
    return given


def _name(function):
    return getattr(function, "__name__", repr(function))
