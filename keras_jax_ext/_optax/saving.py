"""Recipes of transformations as JSON, and back, by public names only."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from keras_jax_ext._by_name.entries import UNEXPECTED
from keras_jax_ext._optax import permitted, recording
from keras_jax_ext._optax.lazy import optax
from keras_jax_ext._optax.recording import Call, Name

import jax
import jax.numpy as jnp
import keras
import numpy as np

_REGISTER = (
    "Register a function with `@keras.saving.register_keras_serializable()`; "
    "make transformations with `from keras_jax_ext import optax`."
)


class CannotSaveError(ValueError):
    """A file cannot hold a part of a transformation."""


class RefusedError(ValueError):
    """A file holds something that cannot be a part of a transformation."""


def encode(value: Any) -> Any:
    """Return JSON for a recorded transformation, a schedule or an argument."""
    recipe = recording.recipe_of(value)
    if recipe is not None:
        return _encode_recipe(recipe)
    name = recording.name_of(value)
    if name is not None:
        return {"optax": name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    return _encode_record(value) or _encode_array(value) or _encode_code(value)


def _encode_recipe(recipe):
    if isinstance(recipe, Name):
        return {"optax": recipe.name}
    args = [encode(v) for v in recipe.args]
    kwargs = {k: encode(v) for k, v in recipe.kwargs.items()}
    callee = _encode_recipe(recipe.callee)
    call = {"call": callee, "args": args, "kwargs": kwargs}
    _check_savable(permitted.why_not(call), call)
    return call


def encode_maker(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> Any:
    """Return JSON for a function of optax that makes a transformation.

    Args:
        function: The function.
        arguments: JSON of the arguments that it is called with, by name.
    """
    name = recording.name_of(function)
    if name is None or not recording.makes(name):
        raise CannotSaveError(
            "Only functions of optax can be saved as what makes a "
            f"transformation. Received: {function}. {_REGISTER}"
        )
    _check_savable(permitted.misplaced(name, arguments), arguments)
    return encode(function)


def _check_savable(why: str | None, config: Any) -> None:
    if why is not None:
        raise CannotSaveError(
            f"A file cannot hold {why}: it would be called with what the file "
            f"says. Received: {config}. {_REGISTER}"
        )


def _encode_record(value):
    """JSON for a tuple, or for a named tuple or dataclass of optax."""
    name = recording.name_of(type(value))
    if name is not None and recording.makes(name):
        if hasattr(value, "_fields"):
            fields = value._asdict()
        else:
            names = [f.name for f in dataclasses.fields(value)]
            fields = {n: getattr(value, n) for n in names}
        return _encode_recipe(Call(Name(name), (), fields))
    is_closure = isinstance(value, optax.GradientTransformation)
    if isinstance(value, tuple) and not is_closure:
        return {"tuple": [encode(v) for v in value]}
    return None


def _encode_array(value):
    if isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        data = np.asarray(jax.random.key_data(value)).tolist()
        return {"key": data, "impl": str(jax.random.key_impl(value))}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        value = np.asarray(value)
        return {"array": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, np.dtype) or type(value) is type(jnp.float32):
        return {"dtype": jnp.dtype(value).name}
    return None


def _encode_code(value):
    """JSON for a registered function, or for a registered object."""
    registered = keras.saving.get_registered_name(
        value if inspect.isfunction(value) else type(value)
    )
    known = keras.saving.get_registered_object(registered)
    if known is value:
        return {"registered": registered}
    is_schedule = isinstance(
        value, keras.optimizers.schedules.LearningRateSchedule
    )
    if is_schedule or (known is not None and known is type(value)):
        return {"object": keras.saving.serialize_keras_object(value)}
    raise CannotSaveError(
        f"This part of an optax transformation cannot be saved: {value!r} "
        f"(of type {type(value)}). {_REGISTER}"
    )


def decode(config: Any) -> Any:
    """Return the value of JSON from `encode`.

    It calls public functions of optax and `from_config` of registered classes,
    and nothing else that the JSON names.
    """
    if isinstance(config, list):
        return [decode(c) for c in config]
    if not isinstance(config, dict):
        return config
    for kind, (decoder, *others) in _DECODERS.items():
        if kind in config:
            # One that nobody reads would be left out in silence.
            if strange := config.keys() - {kind, *others}:
                raise _damage(f"nobody wrote {sorted(strange)}", config)
            return _decoded(decoder, config)
    raise refusal("an entry of this kind", config)


def _decoded(decoder, config):
    try:
        return decoder(config)
    except RefusedError:  # names the entry within this one
        raise
    except (ValueError, *UNEXPECTED) as e:
        raise _damage(f"{type(e).__name__}: {e}", config) from e


def _damage(why, config):
    return RefusedError(
        f"An entry of a saved optax transformation is damaged ({why}). "
        f"Received: {config}."
    )


def decode_maker(config: Any, arguments: Mapping[str, Any]) -> Any:
    """Return a transformation, or a function of optax that makes one.

    Args:
        config: JSON, from `encode` or `encode_maker`.
        arguments: JSON of the arguments that the function will be called with,
            by name.
    """
    value = decode(config)
    if callable(value):
        name = permitted.maker(config)
        if name is None:
            raise refusal("a function of another library to call", config)
        if why := permitted.misplaced(name, arguments):
            raise refusal(why, arguments)
    return value


def refusal(what: str, config: Any) -> RefusedError:
    """Return the error for something that a file may not hold."""
    return RefusedError(
        "A saved optax transformation is rebuilt from public names of optax "
        f"and registered functions; it cannot hold {what}. Received: {config}."
    )


def _decode_name(config):
    try:
        value = recording.public_names()[config["optax"]]
    except (KeyError, TypeError) as e:
        raise refusal("this name", config) from e
    return recording.recorded(value, Name(config["optax"]))


def _decode_call(config):
    """Call a function of optax, or what one of its factories returned."""
    if why := permitted.why_not(config):
        raise refusal(why, config)
    args = [decode(c) for c in _listed(config["args"])]
    kwargs = {k: decode(c) for k, c in config["kwargs"].items()}
    return decode(config["call"])(*args, **kwargs)


def _listed(value):
    """A list as it is. A string would be taken for a list of its letters."""
    if not isinstance(value, list):
        raise TypeError("a list was written here")
    return value


def _decode_dict(config):
    pairs = _listed(config["dict"])
    made = {decode(k): decode(v) for k, v in pairs}
    if len(made) != len(pairs):
        raise refusal("a dict with a key twice", config)
    return made


def _decode_registered(config):
    found = keras.saving.get_registered_object(config["registered"])
    if found is not None and not inspect.isfunction(found):
        raise refusal("a registered object that is no function", config)
    if found is None:
        raise RefusedError(
            "A function that a saved optax transformation uses is not "
            f"registered. Received: {config}. Import the module that "
            "registers it first."
        )
    return found


def _decode_object(config):
    config = config["object"]
    name = str(config["class_name"])
    if name == "function" or name.startswith("__"):
        # Keras takes these for other things than classes: one of them is a
        # lambda, made from code in the file.
        raise refusal("this as an object", config)
    cls = keras.saving.get_registered_object(config.get("registered_name"))
    schedules = keras.optimizers.schedules
    if cls is None and config.get("module") == "keras.optimizers.schedules":
        cls = getattr(schedules, name, None)
    if not inspect.isclass(cls):
        raise refusal("an object of an unregistered class", config)
    return keras.saving.deserialize_keras_object(config)


# How an entry is read, by the key that tells its kind, and its other keys.
_DECODERS: dict[str, Any] = {
    "optax": (_decode_name,),
    "call": (_decode_call, "args", "kwargs"),
    "array": (lambda c: jnp.asarray(c["array"], c["dtype"]), "dtype"),
    "tuple": (lambda c: tuple(map(decode, _listed(c["tuple"]))),),
    "dict": (_decode_dict,),
    "dtype": (lambda c: jnp.dtype(c["dtype"]),),
    "key": (
        lambda c: jax.random.wrap_key_data(
            jnp.asarray(c["key"], "uint32"), impl=c["impl"]
        ),
        "impl",
    ),
    "registered": (_decode_registered,),
    "object": (_decode_object,),
}
