"""How our models are written to files, read from them, and pickled."""

import pickle
import re
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._inline.frame import declarations
from keras_jax_ext._saving import files
from keras_jax_ext.optimizers._optax_optimizer import optax_optimizers

import keras


class Saved(_keras.Mixin):
    """Mixin: files of a model hold what it declared, and its own name."""

    @_keras.default
    def get_config(self):
        """As `keras.Model.get_config`; a name that was given stays so."""
        config = super().get_config()
        if declarations(self).is_named and "name" in config:
            config["name"] = _Given(config["name"])
        return config

    @classmethod
    def from_config(cls, config, *args, **kwargs):
        """Make a model from `get_config()`.

        Args:
            config: Dict, from `get_config()`.
            *args: As the stock `from_config`.
            **kwargs: As the stock `from_config`.

        Returns:
            A model, not built.
        """
        name = config.get("name")
        model = super().from_config(config, *args, **kwargs)
        if not isinstance(name, _Given) and isinstance(model, Saved):
            # Every config has a name, automatic or not.
            base = _keras.to_snake_case(cls.__name__)
            numbered = is_numbered(model.name, base)
            declarations(model).is_named = not numbered
        return model

    def get_build_config(self):
        """As `kje.Layer`, with what the paths of the variables begin with."""
        config = super().get_build_config()
        if config and "call" in config:
            config["path_name"] = self._path_name()
        return config

    def build_from_config(self, config):
        """As `kje.Layer`, with the paths that were saved."""
        if isinstance(config, dict) and isinstance(
            config.get("path_name"), str
        ):
            declarations(self).path_name = config["path_name"]
        super().build_from_config(config)

    # Of a class, not inherited: whether legacy files, which hold a name alone,
    # would take it for Keras's class of that name.
    _is_named_as_stock = False

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """As `keras.Model.save`; a model that is yet empty is refused.

        Args:
            filepath: Path of the file.
            overwrite: As Keras.
            zipped: As Keras.
            **kwargs: As Keras.

        Raises:
            ValueError: If all layers are declared in `call`, and the model
                was never used.
        """
        if not _keras.sublayers(self):  # else Keras warns, as of its own
            self._check_declared("save")
        super().save(filepath, overwrite, zipped, **kwargs)
        if vars(type(self)).get("_is_named_as_stock"):
            _keras.write_class(filepath, type(self))

    def save_weights(self, filepath, overwrite=True, max_shard_size=None):
        """As `keras.Model.save_weights`; refused before the first use.

        Args:
            filepath: Path of the file.
            overwrite: As Keras.
            max_shard_size: As Keras.

        Raises:
            ValueError: If the model has no weights yet.
        """
        self._check_declared("save_weights")
        return super().save_weights(filepath, overwrite, max_shard_size)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """As `keras.Model.load_weights`; if it fails, nothing is changed.

        Args:
            filepath: Path of the file.
            skip_mismatch: Boolean, whether to read what fits, and warn of
                the rest. Without it every array of the file must have a
                place in the model. Defaults to `False`.
            **kwargs: As Keras.
        """
        with files.loading(self, kwargs.get("objects_to_skip")):
            super().load_weights(filepath, skip_mismatch, **kwargs)

    def compile_from_config(self, config):
        super().compile_from_config(config)
        compiled = self.compiled and self.optimizer is not None
        declarations(self).compiled_from_file = compiled

    def __reduce__(self):
        return pickled(self)

    def _check_declared(self, method):
        if self._declares and not self.built and not self.weights:
            raise ValueError(
                f"`{method}` would write a file without weights: they are "
                f"made when the model is first used. Received: "
                f"{type(self).__name__} {self.name!r}, never called. Call it "
                "on a batch first, or `model.build(input_shape)`."
            )


class _Given(str):
    """A name in a config that its user gave, though it looks automatic."""


def is_numbered(name: str, base: str) -> bool:
    """Whether a name looks like Keras's automatic ones."""
    return re.fullmatch(rf"{base}_\d+", name) is not None


def pickled(model: Any) -> Any:
    """How Keras pickles a model; what could not be unpickled is refused."""
    held = optax_optimizers(getattr(model, "optimizer", None))
    for optimizer in held:
        config = optimizer.get_config()
        if config["transformation"] is None:
            raise pickle.PicklingError(
                "A model is pickled as a file, which cannot hold its optax "
                f"transformation. Received: {config['reason']}"
            )
    return keras.Model.__reduce__(model)
