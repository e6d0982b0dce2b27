"""The order of the weights of layers and models that classes define."""

from typing import Any, TypeVar

from keras_jax_ext import _keras

import keras

Class = TypeVar("Class", bound=type)


def weights_in_order(cls: Class) -> Class:
    """A class of layers or models whose weights are in Keras 2's order.

    There a layer lists all that train before all that do not, and a model its
    layers before variables of its own. Keras 3 lists variables of its own, then
    its layers, so that `get_weights()[0]` is another array.

    Example:

    ```python
    @kje.keras2.weights_in_order
    class Scaled(kje.Model):
        def __init__(self):
            super().__init__()
            self.scale = keras.Variable(2.0)
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.scale * self.dense(x)

    model = Scaled()
    _ = model(np.ones((2, 3)))
    [w.shape for w in model.get_weights()]  # [(3, 1), (1,), ()]
    ```

    Args:
        cls: A class of layers or models.

    Returns:
        The same class.
    """
    # For what reads attributes of a class: typed as any class.
    named: Any = cls
    variables = named.variables

    def all_variables(layer: Any) -> list[Any]:
        ordered = _in_order(layer)
        known = {id(v) for v in ordered}
        others = variables.fget(layer)  # the states of generators, too
        return [*ordered, *(v for v in others if id(v) not in known)]

    named.weights = property(_in_order, doc=named.weights.__doc__)
    named.variables = property(all_variables, doc=variables.__doc__)
    return cls


def _in_order(layer: Any) -> list[Any]:
    own = _keras.own_variables(layer)
    groups = map(_of_group, _keras.groups_of_sublayers(layer))
    inner = [weight for group in groups for weight in group]
    if isinstance(layer, keras.Model):
        found = [*inner, *own]
    else:
        found = [*own, *inner]
        if layer.trainable:
            found.sort(key=_is_fixed)
    return list({id(weight): weight for weight in found}.values())


def _of_group(layers):
    """The weights of a layer, or of those in a list: first what trains."""
    found = [weight for each in layers for weight in each.weights]
    return found if len(layers) == 1 else sorted(found, key=_is_fixed)


def _is_fixed(weight):
    return not weight.trainable
