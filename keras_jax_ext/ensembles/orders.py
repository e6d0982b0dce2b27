"""An order of the rows for each member."""

from typing import Any

from keras_jax_ext import _keras

import numpy as np


class MemberOrders:
    """Orders that each member would have alone, with its seed.

    Keras 3.15 shuffles by NumPy's stream: each member has its own, as it was
    when the member was made.

    Args:
        alone: What each member was made under.
    """

    def __init__(self, alone: list[_keras.Alone]) -> None:
        self.columns = len(alone)
        self._randoms = [_random(each) for each in alone]
        # A model alone draws an order for the batch that builds it.
        self._drawn_to_build = 0

    def note_build(self) -> None:
        """Note that a batch was drawn to build from."""
        self._drawn_to_build += 1

    def __call__(self, rows: int) -> Any:
        """Draw an order of `rows` row numbers for each member."""
        for _ in range(self._drawn_to_build):
            for random in self._randoms:
                random.permutation(rows)
        self._drawn_to_build = 0
        orders = [random.permutation(rows) for random in self._randoms]
        return np.stack(orders, axis=1).astype("int32")

    def get_state(self) -> dict[str, Any]:
        """The random streams, for a process that goes on."""
        return {
            "drawn_to_build": self._drawn_to_build,
            "streams": [each.get_state() for each in self._randoms],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on as another process's orders would.

        Args:
            state: Dict, from `get_state`.
        """
        self._drawn_to_build = state["drawn_to_build"]
        for random, stream in zip(self._randoms, state["streams"], strict=True):
            random.set_state(stream)


def _random(alone):
    random = np.random.RandomState()
    with alone.running():
        random.set_state(np.random.get_state())
    return random
