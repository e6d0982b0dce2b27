"""How the config of an object differs in Keras 2, a table and its rules.

Keras 2 wrote entries that the constructors of Keras 3 do not take. Each is
here with the values at which the object is the same without it; at another
value it cannot be read.
"""

import inspect
from collections.abc import Callable, Collection
from typing import Any

import keras

ANY: Any = object()  # the object computes the same at any value
# By the name of the entry, whatever the class.
GONE: dict[str, Any] = {
    "batch_input_shape": ANY,  # `models.py` reads it
    "decay": (0.0, None),  # `training.py` reads it
    "dynamic": (False,),
    "fn": ANY,  # the class says it
    "fused": ANY,  # the same result on another way
    "groups": (1,),
    "implementation": ANY,  # the same result on another way
    "input_dim": ANY,  # `batch_input_shape` says it
    "input_dtype": ANY,
    "input_length": ANY,  # the shape of the input says it
    "input_shape": ANY,
    "is_legacy_optimizer": ANY,
    "jit_compile": ANY,
    "label_weights": (None,),
    "noise_shape": (None,),
    "optional": (False,),
    "ragged": (False, None),
    "renorm": (False,),
    "rng_type": ANY,  # how random numbers are kept
    "softmax_robust_masking": ANY,
    "sparse": (False, None),
    "time_major": (False,),
    "type_spec": (None,),
    "trainable": ANY,  # of layers without weights
    "virtual_batch_size": (None,),
    "vocabulary_size": ANY,
}
# By the class: shapes that the call gives, initializers without an array.
GONE_OF: dict[str, dict[str, Any]] = {
    "MultiHeadAttention": dict.fromkeys(
        ("query_shape", "key_shape", "value_shape"), ANY
    ),
    **{
        name: dict.fromkeys(
            ("kernel_initializer", "kernel_regularizer", "kernel_constraint"),
            ANY,
        )
        for name in (
            "DepthwiseConv1D",
            "DepthwiseConv2D",
            "SeparableConv1D",
            "SeparableConv2D",
        )
    },
}
RENAMED = {
    "batch_input_shape": ("InputLayer", "batch_shape"),
    "alpha": ("LeakyReLU", "negative_slope"),
    "theta": ("ThresholdedReLU", "threshold"),
    "lr": (None, "learning_rate"),
}
CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "Policy": "DTypePolicy",
    "PolicyV1": "DTypePolicy",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
}

# Of the same name in Keras 3, and not the same, or of another kind of weights.
OTHER = {
    "CuDNNGRU": "its weights have another layout than those of `GRU`",
    "CuDNNLSTM": "its weights have another layout than those of `LSTM`",
    "RandomCrop": "in inference Keras 2 resizes, and Keras 3 does nothing",
}


def _batch_normalization(name, config):
    # Where each channel is normalized by itself, Keras 3 takes a number.
    axis = config.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    if name == "SyncBatchNormalization":
        config["synchronized"] = True


def _variance_scaling(name, config):
    if config.get("distribution") == "normal":  # as Keras 2.1 called it
        config["distribution"] = "truncated_normal"


def _initializer(name, config):
    config.pop("dtype", None)  # TensorFlow 1 wrote that of the array


def _gru(name, config):
    # Before there was a choice.
    config.setdefault("reset_after", False)


def _loss(name, config):
    if config.get("reduction") in ("auto", "sum_over_nonzero_weights"):
        config["reduction"] = "sum_over_batch_size"


CHANGES: dict[str, Callable[[str, dict], None]] = {
    "BatchNormalization": _batch_normalization,
    "GRU": _gru,
    "GRUCell": _gru,
    "VarianceScaling": _variance_scaling,
}


def accepted(cls: type) -> set[str]:
    """The names that a constructor of Keras takes.

    Args:
        cls: The class.
    """
    names: set[str] = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        names |= parameters.keys()
        kinds = [p.kind for p in parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return names


def translate(name: str, cls: type, config: dict[str, Any]) -> dict[str, Any]:
    """The config of Keras 2 as one that a class of Keras 3 takes.

    Args:
        name: The class's name in the file.
        cls: The class of Keras 3.
        config: Dict.

    Returns:
        A new dict.

    Raises:
        ValueError: If the object would be another without an entry.
    """
    config = dict(config)
    if config.get("name", "") is None:
        del config["name"]
    for old, (owner, new) in RENAMED.items():
        if old in config and owner in (None, name):
            config[new] = config.pop(old)
    if issubclass(cls, keras.initializers.Initializer):
        _initializer(name, config)
    if issubclass(cls, keras.losses.Loss):
        _loss(name, config)
    if cls.__name__ in CHANGES:
        CHANGES[cls.__name__](name, config)
    taken = accepted(cls)
    gone = GONE | GONE_OF.get(cls.__name__, {})
    for key in [key for key in config if key not in taken]:
        if not _is_inert(config[key], gone.get(key, ())):
            raise ValueError(
                f"Keras 3 has no {name} with this entry. Received: "
                f"{key}={config[key]!r} of {config.get('name', name)!r} in a "
                "file of Keras 2. Give a class of your own that has it: "
                f"`custom_objects={{{name!r}: YourClass}}`."
            )
        del config[key]
    return config


def _is_inert(value: Any, inert: Collection[Any]) -> bool:
    return inert is ANY or any(
        type(value) is type(each) and value == each for each in inert
    )
