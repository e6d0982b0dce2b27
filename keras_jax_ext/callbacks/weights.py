"""A model's weights and learning rates, as TensorBoard shows them."""

import os
from typing import Any

from keras_jax_ext import _keras

import keras
import numpy as np


def learning_rates(optimizer: Any) -> dict[str, float]:
    """Return the learning rates that can be read, by their name in the logs."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    several = getattr(optimizer, "optimizers", None)
    if several is not None:
        named = {f"learning_rate_{each.name}": each for each in several}
    else:
        named = {"learning_rate": optimizer}
    rates = {}
    for name, each in named.items():
        try:
            rate = each.learning_rate
        except (AttributeError, ValueError):
            continue  # no optimizer, or a transformation with a hidden rate
        if rate is not None:
            rates[name] = float(keras.ops.convert_to_numpy(rate))
    return rates


def weight_image(value: Any) -> np.ndarray | None:
    """Draw weights as images with numbers in `[0, 1]`.

    Args:
        value: Array.

    Returns:
        Array of shape `(count, height, width, channels)`, or `None` if the
        weights have too many dimensions.
    """
    value = np.squeeze(np.asarray(value, "float32"))
    if value.ndim == 1:
        value = value[None]
    if value.ndim == 2:
        value = value if value.shape[0] <= value.shape[1] else value.T
        value = value[None]
    elif value.ndim == 3:
        if keras.config.image_data_format() == "channels_last":
            value = value.transpose(2, 0, 1)
    elif value.ndim == 4 and value.shape[-1] in (1, 3, 4):
        return _scaled(value)
    else:
        return None
    return _scaled(value[..., None])


def _scaled(value):
    finite = value[np.isfinite(value)]
    if not finite.size:
        return np.zeros_like(value)
    low, high = finite.min(), finite.max()
    return (value - low) / (high - low if high > low else 1.0)


def _embeddings(model):
    layers = [model, *_keras.sublayers(model)]
    return [x for x in layers if isinstance(x, keras.layers.Embedding)]


def _file(layer):
    """The file for the vectors of an embedding layer, below `log_dir`."""
    path = getattr(layer, "path", None) or layer.name
    return os.path.join("embeddings", path.replace("/", ".") + ".tsv")


def write_projector(
    log_dir: str,
    model: keras.Model,
    metadata: Any,
) -> None:
    """Tell TensorBoard's projector which files hold vectors and labels.

    Args:
        log_dir: The folder.
        model: The model.
        metadata: Dict of file names by layer names, one file name for all, or
            `None`.

    Raises:
        ValueError: If `metadata` names a layer that is no embedding.
    """
    from google.protobuf import text_format
    from tensorboard.plugins.projector import projector_config_pb2

    layers = _embeddings(model)
    names = [layer.name for layer in layers]
    files = metadata or {}
    if not isinstance(files, dict):
        files = dict.fromkeys(names, files)
    unknown = sorted(set(files) - set(names))
    if unknown:
        raise ValueError(
            "`embeddings_metadata` has file names by the names of embedding "
            f"layers. Received: {unknown}, and the model has {names}."
        )
    config = projector_config_pb2.ProjectorConfig()
    for layer in layers:
        entry = config.embeddings.add()
        entry.tensor_name = getattr(layer, "path", None) or layer.name
        entry.tensor_path = _file(layer)
        entry.tensor_shape.extend([layer.input_dim, layer.output_dim])
        if layer.name in files:
            entry.metadata_path = os.fspath(files[layer.name])
    with open(os.path.join(log_dir, "projector_config.pbtxt"), "w") as file:
        file.write(text_format.MessageToString(config))
    os.makedirs(os.path.join(log_dir, "embeddings"), exist_ok=True)
    write_embeddings(log_dir, model)


def write_embeddings(log_dir: str, model: keras.Model) -> None:
    """Write the vectors of every embedding layer that is built."""
    for layer in _embeddings(model):
        if layer.built:
            vectors = keras.ops.convert_to_numpy(layer.embeddings)
            path = os.path.join(log_dir, _file(layer))
            np.savetxt(path, vectors, fmt="%.6g", delimiter="\t")
