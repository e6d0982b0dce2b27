"""What the loop remembers of a model, out of sight of Keras's tracker."""

import operator
from collections.abc import Callable
from typing import Any

from keras_jax_ext._loop.batches import Orders
from keras_jax_ext._loop.program import Program


class Pace:
    """How long a step takes, learned from executions."""

    def __init__(self) -> None:
        self._seconds = float("inf")
        self._most = 1

    def learn(self, steps: int, seconds: float) -> None:
        """Note that `steps` steps took `seconds`."""
        self._seconds = max(seconds, 1e-9) / steps
        self._most = max(self._most, steps)

    def steps(self, seconds: float) -> int:
        """The number of steps that last about `seconds`."""
        # A lucky measurement must not make the next execution last minutes.
        return max(1, min(int(seconds / self._seconds), 16 * self._most))


class Memo:
    """What is remembered of one model.

    Attributes:
        auto_steps: Boolean, whether the steps of an execution are ours to
            choose.
        steps_per_execution: Integer, as Keras reads it.
        programs: `Program` of each mode.
        paces: `Pace` of each mode.
        functions: Keras's step function of each mode, without our guard.
        validation: `Source` of the validation data of the running `fit`.
        stepped: The model whose steps run, where it is another.
        hear: Function that is given the logs of each pass.
        orders: `Orders` of the running `fit`; `None` for one, Keras's own.
    """

    def __init__(self) -> None:
        self.auto_steps = True
        self.steps_per_execution = 1
        self.programs: dict[Any, Program] = {}
        self.paces: dict[Any, Pace] = {}
        self.functions: dict[Any, Callable[..., Any]] = {}
        self.validation: Any = None
        self.stepped: Any = None
        self.hear: Callable[[dict[str, Any]], None] = lambda logs: None
        self.orders: Orders | None = None
        self.told: set[str] = set()

    def set_steps(self, value: Any) -> None:
        """Set `steps_per_execution`, as `compile` is given it."""
        auto = isinstance(value, str) and value == "auto"
        # Keras's own code compares it with numbers: for it, "auto" is 1.
        steps = 1 if auto else _whole_number(value)
        if steps < 1:
            raise ValueError(
                '`steps_per_execution` is "auto" or a positive integer. '
                f"Received: steps_per_execution={value!r} (of type "
                f'{type(value).__name__}). Leave it out for "auto".'
            )
        self.auto_steps, self.steps_per_execution = auto, steps

    def forget(self, mode: Any, function: Callable[..., Any]) -> None:
        """Drop the program of an old step, and note the function of a new one.

        Args:
            mode: `Mode`.
            function: Keras's step function.
        """
        self.programs.pop(mode, None)
        self.paces.pop(mode, None)
        self.functions[mode] = function

    def __deepcopy__(self, memo: Any) -> "Memo":
        # A program holds the step of the model that it was made for.
        copy = Memo()
        copy.auto_steps = self.auto_steps
        copy.steps_per_execution = self.steps_per_execution
        return copy

    def __reduce__(self) -> Any:
        fresh = self.__deepcopy__({})
        del fresh.hear
        return Memo, (), vars(fresh)


def _whole_number(value):
    """An integer of any kind, NumPy's too; zero for anything else."""
    if isinstance(value, bool):
        return 0
    try:
        return operator.index(value)
    except TypeError:
        return 0


def memo(model: Any) -> Memo:
    """What is remembered of a model.

    Args:
        model: A model of ours.
    """
    if "_fused" not in vars(model):
        vars(model)["_fused"] = Memo()
    return vars(model)["_fused"]


def tell(model: Any, line: str, verbose: Any) -> None:
    """Print a line about a model once, unless its user chose the steps.

    Args:
        model: A model of ours.
        line: String.
        verbose: As in `fit`; nothing is printed if it is 0.
    """
    known = memo(model)
    if verbose and known.auto_steps and line not in known.told:
        known.told.add(line)
        print(line)
