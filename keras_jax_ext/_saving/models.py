"""How our models are written to files, read from them, and pickled."""

import contextlib
import os
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from keras_jax_ext import _keras
from keras_jax_ext._disk import atomic
from keras_jax_ext._inline.declarations import declarations
from keras_jax_ext._loop.parts import whole
from keras_jax_ext._loop.writing import write_once
from keras_jax_ext._old_files import stored, weights
from keras_jax_ext._saving import files
from keras_jax_ext.optimizers._optax_optimizer import optax_optimizers

import keras

# The endings of files of weights; the second lists their shards.
_WEIGHTS = (".weights.h5", ".weights.json")


class Saved(_keras.Mixin):
    """Mixin: files of a model hold what it declared, and its own name."""

    built: bool

    @_keras.default
    def get_config(self) -> dict[str, Any]:
        """As `keras.Model.get_config`; also tells whether a user named it."""
        config = super().get_config()
        if declarations(self).is_named and "name" in config:
            config["name"] = _Given(config["name"])
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Self:
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
            # From a file the name is a plain string, automatic or not.
            base = _keras.to_snake_case(cls.__name__)
            numbered = is_numbered(model.name, base)
            declarations(model).is_named = not numbered
        return model

    def get_build_config(self) -> dict[str, Any] | None:
        """As `kje.Layer`; also holds what the variables' paths begin with."""
        config = super().get_build_config()
        if config and "call" in config:
            config["path_name"] = self._path_name()
        return config

    def build_from_config(self, config: dict[str, Any]) -> None:
        """As `kje.Layer`; the variables get the paths that were saved."""
        if isinstance(config, dict) and isinstance(
            config.get("path_name"), str
        ):
            declarations(self).path_name = config["path_name"]
        super().build_from_config(config)

    # Whether Keras has a class of the same name. Legacy files hold only that
    # name, and would be loaded as Keras's class. Not inherited: it is true of
    # the classes that set it themselves.
    _is_named_as_stock = False

    def save(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        zipped: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.save`; a model that has no weights yet is refused.

        The old file is there until the new one is whole. The files of a folder
        are replaced one after another when all are whole. If several processes
        share the model, the first writes, and the others wait for it.

        Args:
            filepath: Path of the file, or of the folder if `zipped=False`.
            overwrite: As Keras.
            zipped: As Keras.
            **kwargs: As Keras.

        Raises:
            ValueError: If all layers are declared in `call`, and the model
                was never used.
        """
        if not _keras.sublayers(self):  # with some, Keras itself warns
            self._check_declared("save")
        with whole(self):
            write_once(
                filepath,
                lambda: self._save(filepath, overwrite, zipped, **kwargs),
            )

    def _save(self, filepath, overwrite, zipped, **kwargs):
        args = overwrite, zipped
        if zipped is not None and not zipped:
            if not _can_hold_files(filepath, overwrite):
                self._write_file(filepath, *args, **kwargs)
                return
            with atomic.replacing_several(filepath, "config.json") as new:
                self._write_file(new, *args, **kwargs)
        elif atomic.can_replace(filepath, overwrite):
            with atomic.replacing(filepath) as new:
                self._write_file(new, *args, **kwargs)
        else:
            self._write_file(filepath, *args, **kwargs)

    def _write_file(self, filepath, *args, **kwargs):
        super().save(filepath, *args, **kwargs)
        if vars(type(self)).get("_is_named_as_stock"):
            _keras.write_class(filepath, type(self))

    def save_weights(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        max_shard_size: float | None = None,
    ) -> None:
        """As `keras.Model.save_weights`; refused before the first use.

        The old file is there until the new one is whole. The files of shards
        are replaced one after another when all are whole. If several processes
        share the model, the first writes, and the others wait for it.

        Args:
            filepath: Path of the file.
            overwrite: As Keras.
            max_shard_size: As Keras.

        Raises:
            ValueError: If the model has no weights yet.
        """
        self._check_declared("save_weights")
        with whole(self), self._as_its_layers():
            write_once(
                filepath,
                lambda: self._save_weights(filepath, overwrite, max_shard_size),
            )

    def _save_weights(self, filepath, overwrite, max_shard_size):
        can = self.built and atomic.can_write(filepath, overwrite)
        path = Path(filepath) if can else None
        if path is None or not path.name.endswith(_WEIGHTS):
            # Keras says what is wrong with them, or writes elsewhere.
            super().save_weights(filepath, overwrite, max_shard_size)
        elif max_shard_size is not None:
            index = path.with_suffix(".json").name
            with atomic.replacing_several(path.parent, index) as new:
                super().save_weights(new / path.name, True, max_shard_size)
        elif path.suffix == ".h5" and not path.is_dir():
            # In memory: on a full disk HDF5 would end the process.
            content = _keras.weights_file(self)
            with atomic.replacing(path) as new:
                new.write_bytes(content)
        else:
            super().save_weights(filepath, overwrite)

    def load_weights(
        self,
        filepath: str | os.PathLike[str],
        skip_mismatch: bool = False,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.load_weights`; if it fails, nothing is changed.

        From an `.h5` file of Keras 2, layers take the weights under their
        names if the file and the model have the same, declared ones too; else
        in order.

        Args:
            filepath: Path of the file.
            skip_mismatch: Boolean, whether to read the arrays that fit and
                warn of the others. If `False`, every array of the file must
                have a place in the model. Defaults to `False`.
            **kwargs: As Keras. `by_name=True` leaves the layers of other names
                as they are.
        """
        with (
            self._as_its_layers(),
            files.loading(self, filepath, kwargs.get("objects_to_skip")),
            stored.opened(filepath) as file,
        ):
            if file is None or kwargs.keys() - {"by_name"}:
                super().load_weights(filepath, skip_mismatch, **kwargs)
                return
            by_name = bool(kwargs.get("by_name"))
            weights.load(
                self, file, by_name=by_name, skip_mismatch=skip_mismatch
            )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        super().compile_from_config(config)
        declarations(self).compiled_from_file = self.compiled

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pickled(self)

    @contextlib.contextmanager
    def _as_its_layers(self) -> Iterator[None]:
        """Within the block, a model of built layers counts as built, too.

        One that is made of others, which its steps call, is never called.
        """
        layers = _keras.sublayers(self)
        built = all(layer.built for layer in layers) and bool(layers)
        if self.built or self._declares or not built:
            yield
            return
        self.built = True
        try:
            yield
        finally:
            self.built = False

    def _check_declared(self, method):
        if self._declares and not self.built and not self.weights:
            raise ValueError(
                f"`{method}` would write a file without weights: they are "
                f"made when the model is first used. Received: "
                f"{type(self).__name__} {self.name!r}, never called. Call it "
                "on a batch first, or `model.build(input_shape)`."
            )


def _can_hold_files(filepath, overwrite):
    """Whether Keras writes a folder of this name, on this machine."""
    return atomic.can_write(filepath, overwrite) and not os.fspath(
        filepath
    ).endswith(".keras")


class _Given(str):
    """A name in a config that a user gave, even if it looks automatic."""


def is_numbered(name: str, base: str) -> bool:
    """Whether a name looks like Keras's automatic ones."""
    return re.fullmatch(rf"{base}_\d+", name) is not None


def pickled(
    model: keras.Model,
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Pickle as Keras does; a model that could not be unpickled is refused.

    Raises:
        pickle.PicklingError: If its optax transformation cannot be saved.
    """
    held = optax_optimizers(getattr(model, "optimizer", None))
    for optimizer in held:
        config = optimizer.get_config()
        if config["transformation"] is None:
            raise pickle.PicklingError(
                "A model is pickled as a file, which cannot hold its optax "
                f"transformation. Received: {config['reason']}"
            )
    return keras.Model.__reduce__(model)
