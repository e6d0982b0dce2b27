"""Make the objects of Keras 3 that configs of Keras 2 describe."""

from collections.abc import Mapping
from typing import Any

from keras_jax_ext._old_files.activations import CHANGED
from keras_jax_ext._old_files.entries import CLASSES, OTHER, translate

import keras

MODELS = ("Functional", "Model", "Sequential")
# Where a class is looked for, by the ending of the entry that holds it: there
# are an initializer and a layer of the name `Identity`.
_NAMESPACES = {
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
    "dtype": "dtype_policies",
    "rate": "optimizers.schedules",
}


class UnreadableError(ValueError):
    """A layer that a file describes, and that Keras 3 cannot have."""


class Objects:
    """Makes objects, of Keras and of the user.

    Args:
        custom_objects: Classes and functions by their names in the file.
        safe_mode: Boolean, whether Python code in a file is refused.
    """

    def __init__(
        self, custom_objects: Mapping[str, Any] | None, safe_mode: bool
    ) -> None:
        self.custom = dict(custom_objects or {})
        self.safe_mode = safe_mode

    def custom_of(self, name: Any) -> Any:
        """The user's class or function of this name, or `None`."""
        if not isinstance(name, str):
            return None
        return keras.saving.get_registered_object(name, self.custom)

    def make(self, config: Any, namespace: str = "layers") -> Any:
        """The object of a config.

        Args:
            config: Dict with `class_name` and `config`.
            namespace: Which of Keras's modules has the class.

        Raises:
            ValueError: If there is no such class, or none of its entries.
        """
        name = config["class_name"]
        try:
            return keras.saving.deserialize_keras_object(
                self.translated(config, namespace),
                custom_objects=self.custom,
                safe_mode=self.safe_mode,
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, UnreadableError):
                raise
            if name == "Lambda" and self.safe_mode:
                raise _refused(config) from error
            # Keras says it behind the whole config.
            why = str(error).rpartition("Exception encountered: ")[2]
            raise UnreadableError(
                f"Keras 3 cannot make a layer of a file: {why.strip()} "
                f"Received: {_described(config)}."
            ) from error

    def translated(self, config: Any, namespace: str = "layers") -> Any:
        """A config of Keras 2 as one of Keras 3, with all that it holds."""
        name, inner = config["class_name"], config.get("config")
        if name in MODELS and self.custom_of(name) is None:
            # Only a wrapper asks for one here: as Keras 3 would have saved it.
            return _serialized(self.model(config))
        if name in ("function", "__lambda__"):
            changed = CHANGED.get(inner) if isinstance(inner, str) else None
            return _serialized(changed) if changed else config
        registered = config.get("registered_name") or name
        for known in (registered, name, _plain(registered)):
            if self.custom_of(known) is not None:
                return _custom(known, self._held(inner))
        cls = find(_plain(name), namespace)
        if name in OTHER:
            raise UnreadableError(
                f"Keras 3 has no such layer: {OTHER[name]}. Received: "
                f"{_described(config)}. Give a class of your own: "
                f"`custom_objects={{{name!r}: YourClass}}`."
            )
        if cls is None:
            raise UnreadableError(
                f"Neither Keras 3 nor `custom_objects` has a class {name!r}. "
                f"Received: {_described(config)}. Give it: "
                f"`custom_objects={{{name!r}: YourClass}}`."
            )
        if cls.__name__ == "Lambda":
            inner = self._function_of(inner)
        inner = translate(_plain(name), cls, self._held(inner))
        return {
            "module": f"keras.{namespace_of(cls)}",
            "class_name": cls.__name__,
            "config": inner,
            "registered_name": None,
        }

    def model(self, config: Any) -> Any:
        """The model of a config; `Models` makes it."""
        raise NotImplementedError

    def _held(self, config):
        """The entries of a config, each translated."""
        if not isinstance(config, dict):
            return config
        return {key: self._entry(key, value) for key, value in config.items()}

    def _entry(self, key, value):
        ending = key.rpartition("_")[2]
        if isinstance(value, list):
            return [self._entry(key, each) for each in value]
        if key == "dtype" and isinstance(value, dict):
            # The dtype of a policy follows from its name.
            return value["config"]["name"]
        if isinstance(value, str):
            return self._named(ending, value)
        if not isinstance(value, dict):
            return value
        if "class_name" in value and "config" in value:
            return self.translated(value, _NAMESPACES.get(ending, "layers"))
        return {k: self._entry(k, v) for k, v in value.items()}

    def _named(self, ending, value):
        """A function that an entry names; the user's, or one of ours."""
        if ending == "activation" and value in CHANGED:
            return _serialized(CHANGED[value])
        known = ending in ("activation", *_NAMESPACES)
        if known and self.custom_of(value) is not None:
            return _function(value)
        return value

    def _function_of(self, config):
        """The config of a `Lambda`, its function as Keras 3 writes it.

        A user can give the function by the layer's name, in place of code.
        """
        config = dict(config)
        for key in (
            "module",
            "function_type",
            "output_shape_type",
            "output_shape_module",
        ):
            config.pop(key, None)
        function = config["function"]
        if callable(self.custom.get(config.get("name"))):
            function = _function(config["name"])
        elif isinstance(function, list):
            function = _code(*function)
        elif isinstance(function, str):
            if self.custom_of(function) is None:
                raise _refused({"class_name": "Lambda", "config": config})
            function = _function(function)
        config["function"] = function
        return config


def _serialized(value):
    return keras.saving.serialize_keras_object(value)


def _code(code, defaults=None, closure=None):
    inner = {"code": code, "defaults": defaults, "closure": closure}
    return {"class_name": "__lambda__", "config": inner}


def _function(name):
    return {
        "module": "builtins",
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


def _custom(name, config):
    return {
        "module": None,
        "class_name": name,
        "config": config,
        "registered_name": name,
    }


def _plain(name):
    """A class's name without the package that Keras 2 registered it under.

    It registered its own optimizers, as `Custom>Adam`.
    """
    return name.removeprefix("Custom>")


def find(name: str, namespace: str) -> type | None:
    """The class of Keras 3 that a name of Keras 2 stands for.

    Args:
        name: The name in a file.
        namespace: A module of Keras, as `"layers"`.
    """
    module: Any = keras
    for part in namespace.split("."):
        module = getattr(module, part)
    found = getattr(module, CLASSES.get(name, name), None)
    return found if isinstance(found, type) else None


def namespace_of(cls: type) -> str:
    """Which module of Keras has a class.

    Args:
        cls: A class that `find` found.
    """
    for namespace in (
        "layers",
        *_NAMESPACES.values(),
        "losses",
        "metrics",
        "optimizers",
    ):
        if find(cls.__name__, namespace) is cls:
            return namespace
    raise AssertionError("unreachable")


def _described(config):
    inner = config.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return f"{config['class_name']} {name!r} in a file of Keras 2"


def _refused(config):
    name = config["config"].get("name", "lambda")
    function = config["config"].get("function")
    code = not isinstance(function, str)
    held = "Python code" if code else f"the function {function!r} by its name"
    return UnreadableError(
        f"A `Lambda` layer in a file holds {held}, which is not run or looked "
        f"up. Received: {_described(config)}. Give the function under the "
        f"layer's name: `custom_objects={{{name!r}: function}}`."
        + (
            " `safe_mode=False` runs the code of a file that you trust, in the "
            "version of Python that wrote it."
            if code
            else ""
        )
    )
