"""Logs of members: their means under the usual names, and each beside them."""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np


@jax.tree_util.register_pytree_node_class
class MemberLogs(dict):
    """Logs as Keras's callbacks know them, the means over the members.

    Attributes:
        members: Dict of arrays, with an entry for each member.
    """

    members: dict[str, Any]

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> "MemberLogs":
        """Take the means.

        Args:
            members: Dict of arrays, whose first axis counts the members.
        """
        logs = cls({name: _mean(value) for name, value in members.items()})
        logs.members = dict(members)
        return logs

    def tree_flatten(self) -> tuple[Any, None]:
        """As JAX asks of a structure."""
        return (dict(self), self.members), None

    @classmethod
    def tree_unflatten(cls, _: None, parts: Any) -> "MemberLogs":
        """As JAX asks of a structure."""
        means, members = parts
        logs = cls(means)
        logs.members = members
        return logs


def _mean(values):
    """The mean over the members that are finite, over all if none is.

    One that diverged must not hide the others.
    """
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype("float32")
    good = jnp.isfinite(values)
    count = good.sum(0)
    mean = jnp.where(good, values, 0).sum(0) / jnp.maximum(count, 1)
    return jnp.where(count > 0, mean, values.mean(0))


class Heard:
    """The last logs of members: of training, and of evaluation."""

    def __init__(self) -> None:
        self.evaluates = False
        self.trained: dict[str, Any] = {}
        self.evaluated: dict[str, Any] = {}

    def hear(self, logs: Any) -> None:
        """Note the logs of a pass; those without members say nothing."""
        if not isinstance(logs, MemberLogs):
            return
        if self.evaluates:
            self.evaluated = logs.members
        else:
            self.trained = logs.members


class MemberHistory(keras.callbacks.History):
    """A `History` that holds the logs of each member too.

    Attributes:
        members: Dict of arrays of shape `(epochs, n)`, by the name of the log.
    """

    reads_no_weights = True

    def __init__(self, heard: Heard, seeds: list[int]) -> None:
        super().__init__()
        self._heard = heard
        self._seeds = seeds
        self._told: set[int] = set()
        self._rows: dict[str, list[np.ndarray]] = {}
        # What a callback has put in place of the values of the last epoch.
        self.final: dict[str, np.ndarray] = {}

    @functools.cached_property
    def members(self) -> dict[str, np.ndarray]:
        """The logs of each member, by name."""
        return {name: np.stack(rows) for name, rows in self._rows.items()}

    def last(self, name: str) -> np.ndarray | None:
        """The values of a log that the members ended with, if it is known."""
        rows = self._rows.get(name)
        return self.final.get(name, rows[-1] if rows else None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the logs of an epoch."""
        super().on_epoch_end(epoch, logs)
        found = dict(self._heard.trained)
        for name, values in self._heard.evaluated.items():
            if f"val_{name}" in (logs or {}):
                found[f"val_{name}"] = values
        self.__dict__.pop("members", None)
        for name, values in found.items():
            self._rows.setdefault(name, []).append(np.asarray(values))
        self._tell_diverged(epoch, found.get("loss"))

    def _tell_diverged(self, epoch, losses):
        if losses is None:
            return
        bad = set(np.flatnonzero(~np.isfinite(np.asarray(losses))).tolist())
        new = sorted(bad - self._told)
        self._told |= bad
        if new:
            seeds = [self._seeds[i] for i in new]
            warnings.warn(
                f"The loss of members {new} is not finite since epoch "
                f"{epoch + 1}. Received: seeds={seeds}. The others go on, and "
                "the means leave these out.",
                stacklevel=2,
            )
