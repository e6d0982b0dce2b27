"""What the fused loop remembers of a model, out of sight of Keras's tracker."""


class _Notes:
    def __init__(self):
        self.auto_steps = True
        self.steps_per_execution = 1
        self.programs = {}
        self.functions = {}
        self.paces = {}
        self.told = set()

    def __deepcopy__(self, memo):
        # Programs hold the step of the model that they were made for.
        copy = _Notes()
        copy.auto_steps = self.auto_steps
        copy.steps_per_execution = self.steps_per_execution
        return copy

    def __reduce__(self):
        fresh = self.__deepcopy__({})
        return _Notes, (), vars(fresh)


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
