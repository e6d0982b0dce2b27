"""What the fused loop remembers of a model, out of sight of Keras's tracker."""

import operator
from typing import Any


class _Notes:
    def __init__(self):
        self.auto_steps = True
        self.steps_per_execution = 1
        self.programs = {}
        self.functions = {}
        self.paces = {}
        self.told = set()

    def set_steps(self, value: Any) -> None:
        """Set `steps_per_execution`, as `compile` is given it."""
        auto = isinstance(value, str) and value == "auto"
        # Keras's own code compares it with numbers: "auto" is 1 to it.
        steps = 1 if auto else _whole_number(value)
        if steps < 1:
            raise ValueError(
                '`steps_per_execution` is "auto" or a positive integer. '
                f"Received: steps_per_execution={value!r} (of type "
                f'{type(value).__name__}). Leave it out for "auto".'
            )
        self.auto_steps, self.steps_per_execution = auto, steps

    def __deepcopy__(self, memo):
        # Programs hold the step of the model that they were made for.
        copy = _Notes()
        copy.auto_steps = self.auto_steps
        copy.steps_per_execution = self.steps_per_execution
        return copy

    def __reduce__(self):
        fresh = self.__deepcopy__({})
        return _Notes, (), vars(fresh)


def _whole_number(value):
    """An integer of any kind, NumPy's too; zero for anything else."""
    if isinstance(value, bool):
        return 0
    try:
        return operator.index(value)
    except TypeError:
        return 0


def notes(model):
    """What is remembered of a model."""
    if "_fused" not in vars(model):
        vars(model)["_fused"] = _Notes()
    return vars(model)["_fused"]


def say(model, line, verbose):
    """Print a line about a model once, unless its user chose the steps."""
    noted = notes(model)
    if verbose and noted.auto_steps and line not in noted.told:
        noted.told.add(line)
        print(line)
