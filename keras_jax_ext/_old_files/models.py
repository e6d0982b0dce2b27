"""Make the models that configs of Keras 2 describe, layer by layer."""

from typing import Any

from keras_jax_ext._old_files import functions
from keras_jax_ext._old_files.objects import MODELS, Objects, UnreadableError

import keras

_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
_CONSTANT = "_CONSTANT_VALUE"


class Models(Objects):
    """Makes models; the other objects are made by `Objects`."""

    def model(self, config: Any) -> Any:
        """The model of a config, not compiled, its weights not yet read.

        Args:
            config: Dict with `class_name` and `config`.

        Raises:
            ValueError: If a layer is not of Keras 3, or of another kind there.
        """
        inner = config["config"]
        custom = self.custom_of(config["class_name"])
        if isinstance(inner, list) or "layers" not in inner:
            if not isinstance(inner, list):
                return self._of_class(config, custom)
            inner = {"layers": inner, "name": None}  # Keras 2.1 and before
        if "input_layers" in inner:
            model = _Graph(self, inner).model(custom or keras.Model)
        elif config["class_name"] == "Sequential" or custom is not None:
            model = self._sequential(inner, custom or keras.Sequential)
        else:
            raise _unknown(config)
        if inner.get("trainable") is False:
            model.trainable = False
        return model

    def _of_class(self, config, custom):
        if custom is None:
            raise _unknown(config)
        return self.make(config)

    def _sequential(self, config, cls):
        model = cls(name=config.get("name"))
        layers = config["layers"]
        shape = _first_shape(layers[0]) if layers else None
        if shape is not None:
            model.add(keras.Input(batch_shape=shape))
        for each in layers:
            model.add(self.layer(each))
        shape = config.get("build_input_shape")
        if not model.built and shape and model.layers:
            model.build(tuple(shape))
        return model

    def layer(self, config: Any) -> Any:
        """The layer of a config; it may be a model."""
        if config["class_name"] in MODELS or _is_graph(config):
            return self.model(config)
        return self.make(config)


def _first_shape(config):
    """The shape of the inputs that the first layer of a `Sequential` tells."""
    if config["class_name"] == "InputLayer":
        return None  # it is added itself
    inner = config["config"]
    return inner.get("batch_input_shape") if isinstance(inner, dict) else None


def _is_graph(config):
    inner = config.get("config")
    return isinstance(inner, dict) and "input_layers" in inner


def _unknown(config):
    return UnreadableError(
        "A file of Keras 2 describes functional and Sequential models; of "
        f"others it has the weights. Received: class "
        f"{config['class_name']!r}. Make the model, and read them: "
        "`model.load_weights(path)`."
    )


class _Graph:
    """A functional model that is made again by calling its layers.

    Args:
        objects: Makes the layers.
        config: The inner config of the model.
    """

    def __init__(self, objects: Models, config: dict[str, Any]) -> None:
        self.config = config
        self.configs = {each["name"]: each for each in config["layers"]}
        keys = _keys(config["input_layers"])
        self.layers = {
            name: objects.layer(_renamed(each, keys.get(name)))
            for name, each in self.configs.items()
            if each["class_name"] not in _OPERATIONS
        }
        # What each call of a layer gave, as a flat list, by name and number.
        self.results: dict[tuple[str, int], list[Any]] = {}
        self.first = self._first_numbers()

    def model(self, cls: Any) -> Any:
        """Call every layer as the file says, and make the model."""
        waiting = [
            (name, number, node)
            for name, each in self.configs.items()
            for number, node in enumerate(
                each["inbound_nodes"] or [None] * _is_input(each)
            )
        ]
        while waiting:
            left = [each for each in waiting if not self._call(*each)]
            if len(left) == len(waiting):
                raise ValueError(
                    "The calls of a functional model in a file wait for each "
                    f"other. Received: {sorted({name for name, *_ in left})}. "
                    "Use another copy of the file."
                )
            waiting = left
        return cls(
            inputs=self._ends("input_layers"),
            outputs=self._ends("output_layers"),
            name=self.config.get("name"),
        )

    def _first_numbers(self):
        """The number of the first call of each layer.

        A model of layers has one call, from its inputs, before it is used.
        """
        zero = {r[0] for r in _references(self.config) if r[1] == 0}
        return {
            name: int(bool(getattr(layer, "inputs", None)) and name not in zero)
            for name, layer in self.layers.items()
            if isinstance(layer, keras.Model)
        }

    def _ends(self, key):
        ends = self._found(self.config[key])
        if isinstance(ends, list) and len(ends) == 1:
            return ends[0]
        return ends

    def _call(self, name, number, node):
        """Call a layer if its arguments are there; return whether they were."""
        number += self.first.get(name, 0)
        if node is None:
            self.results[name, number] = [self.layers[name].output]
            return True
        if not all(tuple(r[:2]) in self.results for r in _references(node)):
            return False
        arguments: dict[str, Any] = {}
        first = self._found(node, arguments)
        if isinstance(first, list) and len(first) == 1 and _in_list(node):
            (first,) = first
        result = self._apply(name, first, arguments)
        several = isinstance(result, list | dict)
        flat = keras.tree.flatten(result) if several else [result]
        if isinstance(result, tuple) and functions.is_tensor(result[0]):
            flat = list(result)
        self.results[name, number] = flat
        return True

    def _apply(self, name, first, arguments):
        config = self.configs[name]
        if config["class_name"] in _OPERATIONS:
            function = config["config"]["function"]
            return functions.call(function, name, first, arguments)
        layer = self.layers[name]
        given = {k: v for k, v in arguments.items() if v is not None}
        recurrent = keras.layers.RNN | keras.layers.Bidirectional
        if isinstance(layer, recurrent) and isinstance(first, list):
            first, *states = first
            given["initial_state"] = states
        return layer(first, **given)

    def _found(self, value, arguments=None):
        """A structure of references as one of tensors.

        Args:
            value: Nested lists and dicts of references.
            arguments: Takes the arguments that stand in each reference.
        """
        if _is_reference(value):
            if len(value) == 4 and arguments is not None:
                held = value[3].items()
                arguments |= {k: self._found(v) for k, v in held}
            if value[0] == _CONSTANT:
                return value[2]
            return self.results[value[0], value[1]][value[2]]
        if isinstance(value, list):
            return [self._found(each, arguments) for each in value]
        if isinstance(value, dict):
            return {k: self._found(v, arguments) for k, v in value.items()}
        return value


def _keys(inputs):
    """The keys of a dict of inputs by the names of their layers."""
    if not isinstance(inputs, dict):
        return {}
    return {r[0]: key for key, r in inputs.items() if _is_reference(r)}


def _renamed(config, key):
    """The config of an input; Keras 3 wants it named as its key in a dict."""
    if key is None:
        return config
    return {**config, "config": {**config["config"], "name": key}}


def _is_input(config):
    return config["class_name"] == "InputLayer"


def _in_list(node):
    """Whether a node's only tensor is in a list, as all single ones are."""
    return not _is_reference(node)


def _is_reference(value):
    """Whether a list is a layer's name, the number of a call, of an output."""
    return (
        isinstance(value, list)
        and 3 <= len(value) <= 4
        and isinstance(value[0], str)
        and type(value[1]) is int
        and (type(value[2]) is int or value[0] == _CONSTANT)
        and (len(value) == 3 or isinstance(value[3], dict))
    )


def _references(value):
    """Every reference to a tensor in a structure."""
    if _is_reference(value):
        if value[0] != _CONSTANT:
            yield value
        yield from _references(value[3:])
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _references(each)
