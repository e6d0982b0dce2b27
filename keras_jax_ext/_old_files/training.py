"""How Keras 2 compiled a model, and the state of its optimizer."""

import collections
import re
import warnings
from typing import Any

from keras_jax_ext._old_files.objects import Objects
from keras_jax_ext._old_files.stored import Stored
from keras_jax_ext._old_files.weights import assign, matched

import keras

# What the optimizers of Keras 2, the legacy ones too, call their slots.
_SLOTS = {
    "accumulated_delta_var": "accumulated_delta_var",
    "accumulated_grad": "accumulated_grad",
    "accumulator": "accumulator",
    "average": "average",
    "average_gradient": "average_gradient",
    "linear": "linear",
    "m": "momentum",
    "mg": "average_gradient",
    "momentum": "momentum",
    "rms": "velocity",
    "u": "norm",
    "v": "velocity",
    "velocity": "velocity",
    "vhat": "velocity_hat",
}
# Names of functions that Keras 3 changed.
_FUNCTIONS = {
    "cosine": "cosine_similarity",
    "cosine_proximity": "cosine_similarity",
    "huber_loss": "huber",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
}


def compile_model(
    model: keras.Model, config: dict[str, Any], objects: Objects
) -> None:
    """Compile a model as its file says.

    Args:
        model: The model.
        config: The file's `training_config`.
        objects: Makes the optimizer, the losses and the metrics.

    Raises:
        ValueError: If one of them is not in Keras 3.
    """
    held = config.get("optimizer_config") or config.get("optimizer")
    try:
        arguments = {
            "optimizer": _optimizer(held, objects),
            "loss": _alone(_nested(config.get("loss"), _loss, objects), model),
            "loss_weights": _alone(config.get("loss_weights"), model),
            "metrics": _metrics(config.get("metrics"), model, objects),
            "weighted_metrics": _metrics(
                config.get("weighted_metrics"), model, objects
            ),
        }
    except ValueError as error:
        raise ValueError(
            f"The model of a file can be read, and not compiled: {error} "
            "Load it with `compile=False`, and compile it."
        ) from error
    model.compile(**arguments)


def _optimizer(config, objects):
    if not isinstance(config, dict):
        return config
    inner = dict(config["config"])
    if config["class_name"].endswith("LossScaleOptimizer"):
        scaled = inner.get("inner_optimizer", inner.get("optimizer"))
        return keras.optimizers.LossScaleOptimizer(_optimizer(scaled, objects))
    rate = "lr" if "lr" in inner else "learning_rate"
    decay = inner.pop("decay", None)
    if decay and not isinstance(inner.get(rate), dict):
        # Keras 2 divided the rate by `1 + decay * steps`.
        schedule = {"decay_steps": 1, "decay_rate": decay}
        inner[rate] = {
            "class_name": "InverseTimeDecay",
            "config": {"initial_learning_rate": inner[rate], **schedule},
        }
    return objects.make({**config, "config": inner}, "optimizers")


def _nested(config, make, objects):
    """Apply `make` to each loss or metric of a structure."""
    if config is None:
        return None
    if isinstance(config, str) or "class_name" in config:
        return make(config, objects)
    if isinstance(config, dict):
        return {k: _nested(v, make, objects) for k, v in config.items()}
    return [_nested(each, make, objects) for each in config]


def _function(config, objects):
    """A user's function, which a config names, or the name."""
    name = config["config"] if isinstance(config, dict) else config
    return objects.custom_of(name) or _FUNCTIONS.get(name, name)


def _is_function(config):
    return isinstance(config, str) or config["class_name"] == "function"


def _loss(config, objects):
    if _is_function(config):
        return _function(config, objects)
    return objects.make(config, "losses")


def _metric(config, objects):
    if _is_function(config):
        return _function(config, objects)
    if config["class_name"] not in ("MeanMetricWrapper", "SumOverBatchSize"):
        return objects.make(config, "metrics")
    inner = config["config"]
    function = _function(inner["fn"], objects)
    if isinstance(function, str):
        function = getattr(keras.metrics, function, None) or getattr(
            keras.losses, function, None
        )
    if not callable(function) or isinstance(function, type):
        raise ValueError(
            "Neither Keras 3 nor `custom_objects` has a metric's function. "
            f"Received: {inner['fn']!r}."
        )
    return keras.metrics.MeanMetricWrapper(function, name=inner.get("name"))


def _alone(given, model):
    """What is given by the name of the only output, or in a list for it."""
    if len(model.outputs or [None]) > 1:
        return given
    if isinstance(given, dict) and len(given) == 1:
        (given,) = given.values()
    if isinstance(given, list) and len(given) == 1:
        (given,) = given
    return given


def _metrics(config, model, objects):
    # Keras 2 wrote a list for each output, of one too.
    made = _alone(_nested(config, _metric, objects), model)
    single = made is not None and not isinstance(made, dict | list)
    return [made] if single else made


def load_state(model: keras.Model, arrays: list[Stored]) -> None:
    """Give the optimizer the state that a file holds, or say that it has none.

    Args:
        model: A compiled model.
        arrays: The arrays of the optimizer.
    """
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    try:
        pairs = _pairs(optimizer, model.trainable_variables, arrays)
    except (LookupError, ValueError) as error:
        warnings.warn(
            f"The optimizer {optimizer.name!r} of a file begins anew: its "
            f"state is not as in Keras 3 ({error}).",
            stacklevel=4,
        )
        return
    assign(pairs)


def _pairs(optimizer, variables, arrays):
    """Pair the variables of an optimizer with the arrays of a file."""
    own = {v.path.partition("/")[2]: v for v in optimizer.variables}
    if len(own) != len(optimizer.variables):
        raise ValueError("two of its variables have the same name")
    pairs, slots = [], collections.defaultdict(list)
    for array in arrays:
        slot, name = _slot(array.name)
        if slot is None:
            pairs.append((own.pop("iteration"), array))
        else:
            slots[slot].append(Stored(name, array.array))
    for slot, held in slots.items():
        if len(held) != len(variables):
            raise ValueError(f"{len(held)} arrays for {slot!r}")
        for variable, array in matched(variables, held):
            path = variable.path.replace("/", "_")
            # Keras 2 has a momentum of zero too.
            if f"{path}_{slot}" in own:
                pairs.append((own.pop(f"{path}_{slot}"), array))
    own.pop("learning_rate", None)  # the config has it
    for variable, array in pairs:
        if tuple(variable.shape) != array.shape:
            raise ValueError(f"shape {array.shape} for {variable.path!r}")
    if own:
        raise ValueError(f"it lacks {len(own)} of its variables")
    return pairs


def _slot(name):
    """The slot and the variable that the name of an array tells.

    `Adam/m/dense/kernel`, or of the legacy optimizers `Adam/dense/kernel/m`.
    """
    parts = name.split("/")
    if re.fullmatch(r"iter(ation)?", parts[-1]):
        return None, ""
    if len(parts) > 2 and parts[1] in _SLOTS:
        return _SLOTS[parts[1]], "/".join(parts[2:])
    return _SLOTS[parts[-1]], "/".join(parts[1:-1])
