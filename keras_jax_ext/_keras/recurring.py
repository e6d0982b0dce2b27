"""The states of recurrent layers, which Keras does not list with JAX."""

from types import SimpleNamespace
from typing import Any


def carry_states(layer: Any) -> None:
    """List the states of a layer among its variables, but not its weights.

    `RNN` makes them outside of Keras's lists. That of the seed generators is
    the only one whose entries are variables and no weights. Replaced by:
    nothing; Keras would list them itself.

    Args:
        layer: A recurrent layer that is built.
    """
    known = {id(each.state) for each in layer._seed_generators}
    for state in layer.states:
        if id(state) not in known:
            layer._seed_generators.append(SimpleNamespace(state=state))
