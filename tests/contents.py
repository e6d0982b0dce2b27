"""What a model that was loaded has, to compare it with the saved one."""

import numpy as np


def values(model):
    """The variables of a model, and of its optimizer if it is compiled."""
    variables = [*model.variables]
    if model.compiled:
        variables += model.optimizer.variables
    return [np.array(v) for v in variables]


def same(ours, theirs):
    """Whether two lists of arrays are equal, bit for bit."""
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))
