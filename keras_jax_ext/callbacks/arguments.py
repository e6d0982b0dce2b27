"""Checks of the arguments of the TensorBoard callback."""

import os
import tempfile
from typing import Any


def check_frequency(name: str, value: Any) -> Any:
    """Return a frequency as an integer or `"epoch"`. Raises for others."""
    words = {"epoch": "epoch", "batch": 1} if name == "update_freq" else {}
    if isinstance(value, str) and value in words:
        return words[value]
    least = 1 if words else 0
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least:
        allowed = '"epoch", "batch" or a' if words else "an"
        raise ValueError(
            f"`{name}` is {allowed} integer of at least {least}. Received: "
            f"{name}={value!r} (of type {type(value).__name__})."
        )
    return value


def profiled_batches(profile_batch: Any) -> tuple[int, int] | None:
    """Return the first and last batch to profile, or `None` for no profile."""
    given = profile_batch
    if isinstance(given, str):  # as older versions of TensorFlow: "2,5"
        given = given.split(",")
    pair = list(given) if isinstance(given, (list, tuple)) else [given]
    try:
        pair = [int(number) for number in pair]
    except (TypeError, ValueError):
        pair = []
    if pair in ([0], [0, 0]):
        return None
    if len(pair) not in (1, 2) or pair[0] < 1 or pair[-1] < pair[0]:
        raise ValueError(
            "`profile_batch` is the number of a batch, from 1, or a pair, the "
            "first and last; 0 means no profile. Received: profile_batch="
            f"{profile_batch!r} (of type {type(profile_batch).__name__})."
        )
    return pair[0], pair[-1]


def check_folder(log_dir: str) -> None:
    """Make the folder. Raises if nothing can be written in it."""
    if "://" in log_dir:
        return  # TensorBoard has file systems of its own
    try:
        os.makedirs(log_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=log_dir):
            pass
    except OSError as error:
        raise OSError(
            "TensorBoard's files cannot be written. Received: log_dir="
            f"{log_dir!r}: {error}. Give a folder that you may write to."
        ) from error
