"""The validation data of `fit`: split off, checked, and evaluated."""

from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._loop.backup import check_data
from keras_jax_ext._loop.fallback import fuses
from keras_jax_ext._loop.memo import memo
from keras_jax_ext._loop.modes import TEST
from keras_jax_ext._loop.readers import changes_itself
from keras_jax_ext._loop.source import Source

import jax
import keras


class Validation(NamedTuple):
    """How `fit` validates.

    Attributes:
        data: As `validation_data` in `fit`; `None` for no validation.
        batch_size: Integer or `None`, as in `fit`.
        steps: Integer or `None`, as `validation_steps` in `fit`.
        frequency: As `validation_freq` in `fit`.
    """

    data: Any
    batch_size: int | None
    steps: int | None
    frequency: Any

    def follows(self, model: Any, epoch: int) -> bool:
        """Whether an epoch is followed by validation.

        Args:
            model: The model.
            epoch: Integer.
        """
        return self.data is not None and _keras.should_validate(
            model, epoch, self.frequency
        )

    def check_again(self) -> None:
        """Raise if a process that starts anew does not go on with the data.

        Raises:
            ValueError: If so.
        """
        x = keras.utils.unpack_x_y_sample_weight(self.data)[0]
        if isinstance(x, keras.utils.PyDataset):
            why = changes_itself(x)
        else:
            # It goes on where the last validation stopped.
            why = "a generator" if hasattr(x, "__next__") else None
        check_data(why and f"{why} as validation data", why)

    @property
    def is_of_arrays(self) -> bool:
        """Whether the data are arrays, which nobody draws from."""
        leaves = (v for v in keras.tree.flatten(self.data) if v is not None)
        return all(map(_has_rows, leaves))

    def source(self, model: Any) -> Source:
        """The data, to be read.

        Args:
            model: The model.
        """
        data = keras.utils.unpack_x_y_sample_weight(self.data)
        given = {"batch_size": self.batch_size, "steps": self.steps}
        return Source(model, *data, **given)

    def logs(self, model: Any, callbacks: Any) -> dict[str, Any]:
        """Evaluate the model on the data, through its own `evaluate`.

        Args:
            model: The model.
            callbacks: `CallbackList` of the `fit`.

        Returns:
            Dict of logs, whose names begin with `val_`.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self.data)
        given = {"batch_size": self.batch_size, "steps": self.steps}
        known = memo(model)
        if known.validation is None and _keras.cached_iterator(model) is None:
            # One source for all epochs: a generator goes on where it stopped.
            if fuses(model, TEST, verbose=0):
                known.validation = self.source(model)
            else:
                _keras.cache_iterator(model, x, y, sample_weight, **given)
        logs = model.evaluate(
            x=x,
            y=y,
            sample_weight=sample_weight,
            callbacks=callbacks,
            return_dict=True,
            **given,
            **{_keras.CACHED: True},
        )
        return {f"val_{name}": value for name, value in logs.items()}


def end(model: Any) -> None:
    """Forget the validation data of a `fit` that ended.

    Args:
        model: The model.
    """
    memo(model).validation = None
    _keras.forget_iterator(model)


def split(
    data: tuple[Any, Any, Any], fraction: float, validation_data: Any
) -> tuple[tuple[Any, Any, Any], Any]:
    """Separate training data from validation data, as Keras does.

    Args:
        data: Tuple `(x, y, sample_weight)`.
        fraction: As `validation_split` in `fit`.
        validation_data: As in `fit`, checked here.

    Returns:
        Pair of the data to train on and the validation data or `None`.

    Raises:
        ValueError: If `validation_data` cannot work.
    """
    _check(validation_data)
    if fraction and validation_data is None:
        return _keras.train_validation_split(data, validation_split=fraction)
    return data, validation_data


def _check(data):
    """Raise if `validation_data` has no batch, or another structure.

    A generator that ends at once is an error later, when it is read.
    """
    if data is None:
        return
    if isinstance(data, (list, tuple)) and len(data) not in (1, 2, 3):
        raise ValueError(
            "`validation_data` is `(x, y)` or `(x, y, sample_weight)`, or what "
            f"yields batches. Received: a {type(data).__name__} of {len(data)} "
            "entries."
        )
    if isinstance(data, tuple):
        _check_arrays(data)
    elif isinstance(data, keras.utils.PyDataset) and data.num_batches == 0:
        raise _empty(f"{type(data).__name__} with num_batches=0")


def _check_arrays(data):
    shapes = [tuple(v.shape) for v in jax.tree.leaves(data) if _has_rows(v)]
    rows = sorted({shape[0] for shape in shapes})
    if rows == [0]:
        raise _empty(f"shapes {shapes}")
    if len(rows) > 1:
        raise ValueError(
            "The arrays of `validation_data` have the same number of rows. "
            f"Received: shapes {shapes}."
        )


def _has_rows(value):
    return bool(getattr(value, "shape", ())) and hasattr(value, "dtype")


def _empty(received):
    return ValueError(
        "`validation_data` needs at least one batch. Received: "
        f"{received}. Leave it out to train without validation."
    )
