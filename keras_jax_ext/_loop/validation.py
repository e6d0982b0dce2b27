"""Validation data that cannot work, told before training starts."""

from typing import Any

import jax
import keras


def check(data: Any):
    """Raise if `validation_data` has no batch, or another structure.

    What only reading would show, such as a generator that ends at once, is
    told when it is read.

    Args:
        data: As given to `fit`.
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
