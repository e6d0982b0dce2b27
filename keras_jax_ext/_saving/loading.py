"""Load a model from a file of Keras 3, or of Keras 2."""

import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from keras_jax_ext._by_name.entries import UNEXPECTED
from keras_jax_ext._old_files import stored, training, weights
from keras_jax_ext._old_files.models import Models

import keras

# Names by which Keras compiles a model, and which its `.h5` files have; it
# looks for them in `keras.metrics`, where they are not.
_ALIASES = ("mse", "mae", "mape", "msle", "bce", "kld")


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> Any:
    """As `keras.models.load_model`; also reads the files of Keras 2.

    Layers of a file of Keras 2 (tf.keras of TensorFlow 2.x, tf_keras, or Keras
    2.x) become those of Keras 3 that compute the same, `tf` functions in a
    functional model those of `keras.ops`; the model is compiled as it was, and
    goes on with the optimizer's state, from an `.h5` file. What cannot be the
    same is refused. Other files are handed to Keras; also an `.h5` file of its
    own of a model that was compiled with "mse" or another short name is loaded.

    Example:

    ```python
    model.save("model.h5")
    model = kje.models.load_model("model.h5")
    ```

    Args:
        filepath: Path of the file.
        custom_objects: Dict of classes and functions by their names in the
            file. A function under the name of a `Lambda` layer of Keras 2
            takes the place of the code in the file. Defaults to `None`.
        compile: Boolean, whether to compile the model. Defaults to `True`.
        safe_mode: Boolean, whether to refuse a file that holds Python code.
            Defaults to `True`.

    Returns:
        A model of stock Keras, unless the file has another class. `kje.extend`
        gives it the `compile` and `fit` of `kje.Model`.

    Raises:
        ValueError: If a layer is not in Keras 3, would compute another thing
            there, holds Python code, or the file is damaged.
    """
    with stored.opened(filepath) as file:
        if file is not None and _is_old(file.attrs.get("keras_version")):
            return _telling(
                filepath,
                lambda: _load(file, custom_objects, compile, safe_mode),
            )
        if file is not None:
            custom_objects = {**_short_names(), **(custom_objects or {})}
            model = keras.models.load_model(
                filepath, custom_objects, compile, safe_mode
            )
            _restore_optimizer(model, file)
            return model
    config = _config_of_archive(filepath)
    if config is not None:
        return _telling(
            filepath,
            lambda: _load_archive(
                filepath, config, custom_objects, compile, safe_mode
            ),
        )
    return keras.models.load_model(filepath, custom_objects, compile, safe_mode)


def model_from_json(
    json_string: str, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """As `keras.models.model_from_json`; also reads those of Keras 2.

    Example:

    ```python
    model = kje.models.model_from_json(model.to_json())
    ```

    Args:
        json_string: What `to_json` of a model gave.
        custom_objects: As `load_model`. Defaults to `None`.

    Returns:
        A model, not compiled, of new weights.

    Raises:
        ValueError: As `load_model`.
    """
    config = json.loads(json_string)
    # Keras 3 writes the module of the model's own class.
    is_old = isinstance(config, dict) and (
        "module" not in config or _is_old(config.get("keras_version", "3"))
    )
    if not is_old:
        return keras.models.model_from_json(json_string, custom_objects)
    models = Models(custom_objects, safe_mode=True)
    return _telling("a string", lambda: models.model(stored.decoded(config)))


def _short_names():
    """Losses by their short names."""
    return {
        spelt: keras.losses.get(spelt)
        for name in _ALIASES
        for spelt in (name, name.upper())
    }


def _restore_optimizer(model, file):
    """Build an optimizer for the variables, and give it its state.

    Keras builds that of an `.h5` file for no variables: `fit` raises.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not model.built:
        return
    fresh = type(optimizer).from_config(optimizer.get_config())
    fresh.build(model.trainable_variables)
    if len(optimizer.variables) >= len(fresh.variables):
        return
    group = stored.group_of(file, "optimizer_weights")
    state = stored.arrays(group) if group is not None else []
    if len(state) == len(fresh.variables):  # else it has not trained
        fresh.set_weights([each.array for each in state])
    model.optimizer = fresh


def _is_old(version: Any) -> bool:
    """Whether a version that a file names is before 3; the oldest name none."""
    text = version.decode() if isinstance(version, bytes) else str(version)
    return version is None or text.startswith(("1.", "2."))


def _load(file, custom_objects, compile, safe_mode):
    config = stored.document(file, "model_config")
    if config is None:
        raise ValueError(
            "A file of weights alone has no model. Received: "
            f"{file.filename}. Make the model, and read them: "
            "`model.load_weights(path)`."
        )
    models = Models(custom_objects, safe_mode)
    model = models.model(config)
    weights.load(model, file)
    settings = stored.document(file, "training_config")
    if compile and settings is not None:
        training.compile_model(model, settings, models)
        state = stored.group_of(file, "optimizer_weights")
        if state is not None:
            training.load_state(model, stored.arrays(state))
    return model


def _config_of_archive(filepath):
    """The config in a `.keras` file that Keras 2 wrote, or `None`."""
    try:
        with zipfile.ZipFile(filepath) as archive:
            version = json.loads(archive.read("metadata.json"))["keras_version"]
            if not _is_old(version):
                return None
            return json.loads(archive.read("config.json"))
    except (OSError, ValueError, *UNEXPECTED, zipfile.BadZipFile, zlib.error):
        return None  # Keras says what is wrong with it


def _load_archive(filepath, config, custom_objects, compile, safe_mode):
    models = Models(custom_objects, safe_mode)
    model = models.model(stored.decoded(config))
    model.load_weights(filepath)
    settings = config.get("compile_config")
    if compile and settings is not None:
        training.compile_model(model, settings, models)
        warnings.warn(
            "The optimizer begins anew: of a `.keras` file of Keras 2 its "
            f"state is not read. Received: {filepath}.",
            stacklevel=4,
        )
    return model


def _telling(filepath, load):
    """Call `load`, and name the file in what Python says of its entries."""
    try:
        return load()
    except (*UNEXPECTED, EOFError, RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and "Received" in str(error):
            raise
        raise ValueError(
            "A model in a file of Keras 2 is damaged "
            f"({type(error).__name__}: {error}). Received: {filepath}. Use "
            "another copy of the file."
        ) from error
