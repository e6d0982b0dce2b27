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
from keras.src.trainers.data_adapters.array_slicing import (
    train_validation_split as train_validation_split,
)
# ruff: isort: on

# The argument by which `fit` tells `evaluate` to go on with the validation
# data of the last epoch, which a user's own `evaluate` hands on.
CACHED = "_use_cached_eval_dataset"


def share_epoch(adapter: Any, other: Any) -> None:
    """Let another adapter shuffle as this one would now.

    Args:
        adapter: An `ArrayDataAdapter`.
        other: The one that is to shuffle.
    """
    # Keras 3.15 shuffles by NumPy's stream, 3.16 by the number of the epoch.
    if hasattr(adapter, "_epoch"):
        other._epoch = adapter._epoch
