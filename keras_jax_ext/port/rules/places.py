"""Arguments by place, which have another place in Keras 3: they go by name."""

from keras_jax_ext.port import exports
from keras_jax_ext.port.rules.operations import keyword
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.places import (
    KEPT,
    OF_CALLS,
    OF_FILES,
    OF_METHODS,
    PLACES,
    SWITCHES,
)

import libcst as cst

_NUMBERS = (cst.Integer, cst.Float)


def kept(
    script: Script, node: cst.Call, args: list[cst.Arg], name: str
) -> list[cst.Arg]:
    """The arguments, each of which means what it meant in Keras 2."""
    _not_of_keras_1(script, node, args, name)
    known = exports.signature(name)
    if name not in PLACES or known is None:
        return args
    return _by_name(script, node, args, PLACES[name].split(), known.names)


def of_method(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A call of a method, whose arguments mean what they meant."""
    assert isinstance(updated.func, cst.Attribute)
    return _kept_first(script, node, updated, updated.func.attr.value)


def of_call(
    script: Script, node: cst.Call, updated: cst.Call, layer: str | None
) -> cst.Call:
    """A call of a layer of Keras, whose arguments mean what they meant."""
    return _kept_first(script, node, updated, layer or "")


def of_file(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A method that writes or reads a file."""
    assert isinstance(updated.func, cst.Attribute)
    name = updated.func.attr.value
    args = list(updated.args)
    if name == "load_weights" and len(args) > 1 and args[1].keyword is None:
        script.todo(
            node,
            "the second argument was `by_name=` before TensorFlow 2.12",
            "give it by name",
        )
    if name in OF_FILES and len(args) > KEPT[name]:
        order = OF_FILES[name].split()
        args = _by_name(script, node, args, order, tuple(order[: KEPT[name]]))
    return updated.with_changes(args=args)


def _kept_first(script, node, updated, name):
    order = {**OF_METHODS, **OF_CALLS}.get(name, "").split()
    if len(updated.args) <= KEPT.get(name, len(updated.args)):
        return updated
    now = tuple(order[: KEPT[name]])
    args = _by_name(script, node, list(updated.args), order, now)
    return updated.with_changes(args=args)


def _by_name(script, node, args, order, now):
    named: list[cst.Arg] = []
    moved = None
    for place, arg in enumerate(args):
        if arg.keyword is not None or arg.star or place >= len(order):
            return [*named, *args[place:]]
        key = order[place]
        if moved is None and now[place : place + 1] != (key,):
            moved = key
            script.done(node, f"`{key}=`: its place is another in Keras 3")
        named.append(keyword(key, arg.value, arg) if moved else arg)
    return named


def _not_of_keras_1(script, node, args, name):
    switch, place = SWITCHES.get(name, ("", len(args)))
    if place >= len(args) or args[place].keyword is not None:
        return
    if isinstance(args[place].value, _NUMBERS):
        script.todo(
            node,
            f"a number is in the place of `{switch}=`",
            "give the arguments by name: it was `decay=` before Keras 2.3",
        )
