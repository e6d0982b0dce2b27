"""Give arrays of Keras 2 to the variables of a model, all or none."""

import collections
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_jax_ext import _keras
from keras_jax_ext._old_files import stored
from keras_jax_ext._old_files.stored import Stored

import h5py
import keras

Pairs = list[tuple[keras.Variable, Stored]]


class _Taker(NamedTuple):
    """A layer, or a model itself, and the arrays that it is to take."""

    what: str
    variables: list[keras.Variable]
    arrays: list[Stored]


def load(
    model: keras.Model,
    file: h5py.File,
    *,
    by_name: bool = False,
    skip_mismatch: bool = False,
) -> None:
    """Read the weights of `model`.

    Layers are found by their names, where the file and the model have the
    same; else by their order. So it is with the variables of a layer.

    Args:
        model: The model, built.
        file: A file in the layout of Keras 2.
        by_name: Boolean, whether layers that only one of them has are left as
            they are. Defaults to `False`.
        skip_mismatch: Boolean, whether arrays of another shape are left out,
            with a warning. Defaults to `False`.

    Raises:
        ValueError: If an array has no place or another shape, before any
            variable is changed.
    """
    group = stored.weights_of(file)
    assert group is not None
    pairs: Pairs = []
    faults: list[str] = []
    for taker in _takers(model, group, by_name):
        if len(taker.variables) != len(taker.arrays):
            faults.append(
                f"mismatch in number of weights of {taker.what}: "
                f"{len(taker.arrays)} in the file, {len(taker.variables)} in "
                "the model"
            )
            continue
        for variable, array in matched(taker.variables, taker.arrays):
            if tuple(variable.shape) == array.shape:
                pairs.append((variable, array))
            else:
                faults.append(
                    f"mismatch in shape of {variable.name!r} of {taker.what}: "
                    f"{array.shape} in the file, {tuple(variable.shape)} in "
                    "the model"
                )
    if faults and not skip_mismatch:
        raise _differs(faults, group, model)
    for fault in faults:
        warnings.warn(f"Not loaded: {fault}.", stacklevel=5)
    assign(pairs)
    for layer in _keras.sublayers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # what it computes from its weights


def assign(pairs: Pairs) -> None:
    """Read all arrays, and then set the variables."""
    values = [(variable, array.read()) for variable, array in pairs]
    for variable, value in values:
        variable.assign(value)


def matched(
    variables: Sequence[keras.Variable], arrays: Sequence[Stored]
) -> Pairs:
    """Pair variables with as many arrays.

    Their order in a file depends on what was trainable then. So they are
    paired by the ends of their names, if these are the same and all
    different; else those of one last name, as `kernel`, in order.

    Args:
        variables: The variables.
        arrays: The arrays.
    """
    for length in range(1, 6):
        ours = [_end(v.path, length) for v in variables]
        theirs = {_end(a.name, length): a for a in arrays}
        if len(theirs) == len(arrays) and sorted(ours) == sorted(theirs):
            return [
                (v, theirs[o]) for v, o in zip(variables, ours, strict=True)
            ]
    ours = [_end(v.path, 1) for v in variables]
    queues: dict = collections.defaultdict(collections.deque)
    for array in arrays:
        queues[_end(array.name, 1)].append(array)
    if collections.Counter(ours) == {k: len(q) for k, q in queues.items()}:
        arrays = [queues[name].popleft() for name in ours]
    return list(zip(variables, arrays, strict=True))


def _end(name, length):
    return tuple(name.split("/")[-length:])


def _weights(layer):
    # The order in which Keras 2 wrote them.
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _takers(model, group, by_name):
    """Pair the layers of the file with those of the model."""
    found = stored.by_layer(group)
    layers = {layer.name: layer for layer in model.layers if _weights(layer)}
    if not by_name and layers.keys() != found.keys():
        if len(layers) != len(found):
            raise _differs(["mismatch in number of layers"], group, model)
        # In the order of the file.
        found = dict(zip(layers, found.values(), strict=True))
    common = [name for name in found if name in layers]
    own, of_model = _keras.own_variables(model), stored.of_model(group)
    if by_name and not common:
        raise _differs(["no layer has the name of one"], group, model)
    takers = [
        _Taker(_described(layers[name]), _weights(layers[name]), found[name])
        for name in common
    ]
    if own or (of_model and not by_name):
        takers.append(_Taker("the model itself", own, of_model))
    return takers


def _described(layer):
    return f"layer {layer.name!r} ({type(layer).__name__})"


def _differs(faults, group, model):
    shown = [*faults[:10], *["..."] * (len(faults) > 10)]
    held = {name: len(a) for name, a in stored.by_layer(group).items()}
    ours = {x.name: len(_weights(x)) for x in model.layers if _weights(x)}
    hint = "Make the model as it was when it was saved"
    if not ours:
        hint = "It has no weights before its first use: call it on a batch"
    return ValueError(
        "The weights of a file must match those of the model. Received: "
        f"{'; '.join(shown)}. Layers and their numbers of weights, in the "
        f"file: {_shortened(held)}; in the model: {_shortened(ours)}. {hint}, "
        "or name its layers as in the file and load with `by_name=True`; "
        "`skip_mismatch=True` reads what fits."
    )


def _shortened(counts: dict[str, Any]) -> str:
    shown = [f"{name!r}: {count}" for name, count in counts.items()]
    return "{" + ", ".join([*shown[:12], *["..."] * (len(shown) > 12)]) + "}"
