"""How Keras reads data: its adapters, and its count of steps.

Replaced by: public adapters of arrays, and a public epoch iterator.
"""

from typing import Any

# ruff: isort: off
# Counts the steps of an epoch, and yields the batch that builds a model.
from keras.src.backend.jax.trainer import (
    JAXEpochIterator as EpochIterator,  # noqa: F401
)

# Converts, weights and shuffles arrays.
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter as ArrayDataAdapter,
)
from keras.src.trainers.data_adapters.generator_data_adapter import (
    GeneratorDataAdapter as GeneratorDataAdapter,
)
from keras.src.trainers.data_adapters.grain_dataset_adapter import (
    GrainDatasetAdapter as GrainDatasetAdapter,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import (
    PyDatasetAdapter as PyDatasetAdapter,
)
from keras.src.trainers.data_adapters.array_slicing import (
    train_validation_split as train_validation_split,
)
# ruff: isort: on

# The argument by which `fit` tells `evaluate` to go on with the validation
# data of the last epoch, which a user's own `evaluate` hands on.
CACHED = "_use_cached_eval_dataset"


# Keras 3.15 shuffles by NumPy's stream, 3.16 by the number of the epoch.
def epoch_number(adapter: Any) -> int | None:
    """The number of the epoch that an adapter shuffles by, if it does.

    Args:
        adapter: An adapter of data.
    """
    return getattr(adapter, "_epoch", None)


def set_epoch_number(adapter: Any, number: int | None) -> None:
    """Set the number of the epoch that an adapter shuffles by.

    Args:
        adapter: An adapter of data.
        number: Integer, or `None`, which changes nothing.
    """
    if number is not None:
        adapter._epoch = number
