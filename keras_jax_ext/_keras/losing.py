"""Losses of a layer that are computed whenever they are asked for.

Replaced by: an `add_loss` of Keras that takes functions, as in Keras 2.
"""

from collections.abc import Callable
from typing import Any

_KNOWN = "_computed_losses"


def add_computed_loss(layer: Any, loss: Callable[[], Any]) -> None:
    """Let the losses of a layer have one more, which a function returns.

    Private, for `losses` asks each layer for those of its own there.

    Args:
        layer: The layer.
        loss: Function without arguments.
    """
    known = computed_losses(layer)
    known.append(loss)
    if len(known) == 1:
        before = layer._get_own_losses
        vars(layer)["_get_own_losses"] = lambda: [
            *before(),
            *(each() for each in known),
        ]


def computed_losses(layer: Any) -> list[Callable[[], Any]]:
    """The functions that were added to a layer, in a list to change."""
    found: list[Callable[[], Any]] = vars(layer).setdefault(_KNOWN, [])
    return found
