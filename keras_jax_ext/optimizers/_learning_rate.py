"""The learning rate of an optax transformation: as given, or in its state."""

from typing import Any

from keras_jax_ext._optax import recording
from keras_jax_ext._optax.slots import Slots
from keras_jax_ext.optimizers._source import SETTABLE, Source

# Where `optax.inject_hyperparams` keeps it in its state.
_HELD = ("hyperparams", "learning_rate")
_SCHEDULED = ("hyperparams_states", "learning_rate", "count")


class LearningRate:
    """Reads the learning rate where it is, and sets it where that can work.

    Args:
        source: Where the transformation came from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._slots: Slots | None = None  # the state, once it is built
        # A rate that was set before there was a state. `bind` moves it there.
        self._pending: Any = None

    def read(self) -> Any:
        """Return the learning rate, a number or an array."""
        is_scheduled = callable(self._source.learning_rate)
        held = None if is_scheduled else self._in_state()
        rate = self._pending if held is None else held
        if rate is None:
            rate = self._as_given()
        if callable(rate):
            updates = self._updates()
            rate = None if updates is None else rate(updates)
        if rate is None:
            raise ValueError(
                "The learning rate of this optax transformation cannot be "
                f"read. Received: {self._source.given}. {SETTABLE}"
            )
        return rate

    def set(self, rate: Any) -> None:
        """Put a number into the state, or keep it until there is one."""
        self._check_settable(rate, self._slots)
        if self._slots is None:
            self._pending = rate
        else:
            self._in_state().assign(rate)

    def check_pending(self, slots: Slots) -> None:
        """Raise if a state has no place for a rate that was set before."""
        if self._pending is not None:
            self._check_settable(self._pending, slots)

    def bind(self, slots: Slots) -> None:
        """From now on read and set the learning rate in a state."""
        self._slots = slots
        if self._pending is not None:
            self.set(self._pending)
            self._pending = None

    def _in_state(self):
        if self._slots is None:
            return None
        held = self._slots.find(*_HELD)
        return held[0] if len(held) == 1 else None

    def _as_given(self):
        if self._source.learning_rate is not None:
            return self._source.learning_rate
        recipe = recording.recipe_of(self._source.given)
        rates = recording.learning_rates(recipe)
        return rates[0] if len(rates) == 1 else None

    def _updates(self):
        """How often the transformation has updated, which may skip steps."""
        if self._slots is None:
            return 0
        counts = self._slots.find("count")
        return counts[-1].value if counts else None

    def _check_settable(self, rate, slots):
        if callable(rate):
            why, fix = "to a schedule", "Give the schedule to the constructor."
        elif callable(self._as_given()) or (
            slots is not None and slots.find(*_SCHEDULED)
        ):
            why = "of a schedule"
            fix = f"Give a number in its place. {SETTABLE}"
        elif slots is not None and len(slots.find(*_HELD)) > 1:
            why, fix = "of several", "Assign to `optimizer.variables`."
        elif slots is not None and not slots.find(*_HELD):
            why, fix = "that is a constant", SETTABLE
        else:
            return
        raise ValueError(
            f"The learning rate of this optimizer, {why}, cannot be set. "
            f"Received: learning_rate={rate}, "
            f"transformation={self._source.given}. {fix}"
        )
