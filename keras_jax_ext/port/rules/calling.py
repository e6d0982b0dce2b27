"""Calls of layers: `layer(x, training)`, where only tensors go by position."""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules import places
from keras_jax_ext.port.rules.operations import keyword
from keras_jax_ext.port.script import Script

import libcst as cst

MODES = ("training", "is_training", "train", "is_train")


def by_name(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A call of a layer whose arguments behind a mode go by name."""
    if len(node.args) > 1:
        updated = places.of_call(script, node, updated, _layer(script, node))
    first = next(
        (i for i, a in enumerate(node.args) if i and _is_mode(a)), None
    )
    if first is None:
        return updated
    names = _parameters(script, node.func)
    args = list(updated.args)
    if not names and script.code(node.func).startswith("self."):
        # Of an attribute that is not known, the name tells.
        names = [""] * first + [script.code(node.args[first].value)]
        if names[first] != "training":
            return updated
    if any(a.star for a in args):
        return updated
    for place in range(first, len(args)):
        if args[place].keyword is not None:
            break
        if place >= len(names):
            return updated
        args[place] = keyword(names[place], args[place].value, args[place])
    return updated.with_changes(args=args)


def _is_mode(arg: cst.Arg) -> bool:
    """Whether an argument says whether to train, or is another switch."""
    return (
        arg.keyword is None
        and isinstance(arg.value, cst.Name)
        and arg.value.value in (*MODES, "True", "False")
    )


def _parameters(script: Script, func: cst.BaseExpression) -> list[str]:
    """The arguments of what is called, as far as they are known."""
    made = _maker(script, func)
    while isinstance(made, cst.ClassDef):
        for each in made.body.body:
            if isinstance(each, cst.FunctionDef) and each.name.value == "call":
                return [p.name.value for p in each.params.params][1:]
        base = made.bases[0].value if made.bases else None
        inner = _class(script, base) if base is not None else None
        made = inner if inner is not made else None
    # Of Keras's own: layers and whole models.
    return ["inputs", "training"] if made is not None else []


def _layer(script: Script, node: cst.Call) -> str | None:
    """The name of the layer of Keras that is called, if it is known."""
    made = _maker(script, node.func)
    return None if made is None else script.names.quiet(made)


def _maker(script: Script, func: cst.BaseExpression):
    """The class, of the script or of Keras, that made a layer."""
    if isinstance(func, cst.Call):
        return _made(script, func)
    if isinstance(func, cst.Subscript):
        func = func.value
    for value in values_of(script, func):
        if made := _made(script, value):
            return made
    return None


def values_of(
    script: Script, node: cst.BaseExpression
) -> list[cst.BaseExpression]:
    """The values that a name, or an attribute of `self`, is given."""
    if isinstance(node, cst.Name):
        values = [
            script.names.value(each) or unpacked(script, made_by(each))
            for each in script.names.assignments(node)
        ]
        return [value for value in values if value is not None]
    owner = script.within(node, cst.ClassDef)
    text = script.code(node)
    if not text.startswith("self.") or not isinstance(owner, cst.ClassDef):
        return []
    finder = _Assigned(script, text)
    owner.visit(finder)
    return finder.found


def unpacked(script: Script, target: Any) -> cst.BaseExpression | None:
    """The value of a name in `a, b = 1, 2`."""
    # It is an element of a tuple, which is the target.
    up: list[Any] = script.names.up(target)[1:5] if target is not None else []
    if len(up) < 4 or not isinstance(up[3], cst.Assign):
        return None
    whole = up[3].value
    if not isinstance(up[1], cst.Tuple) or not (
        isinstance(whole, (cst.Tuple, cst.List))
    ):
        return None
    place = list(up[1].elements).index(up[0])
    return whole.elements[place].value if place < len(whole.elements) else None


def _made(script: Script, value: cst.BaseExpression):
    """The class of a value that is made here, or of those in a list."""
    if isinstance(value, (cst.List, cst.Tuple)) and value.elements:
        value = value.elements[0].value
    if isinstance(value, cst.ListComp):
        value = value.elt
    return _class(script, value.func) if isinstance(value, cst.Call) else None


def _class(script: Script, node: cst.BaseExpression):
    """The definition that a name of a class stands for, or a name of Keras."""
    name = dotted(node) and script.names.quiet(node)
    if name:
        return node if name.startswith("keras.") else None
    if isinstance(node, cst.Name):
        for each in script.names.assignments(node):
            found = made_by(each)
            if isinstance(found, cst.ClassDef):
                return found
    return None


class _Assigned(cst.CSTVisitor):
    """The values that an attribute is given in a class."""

    def __init__(self, script: Script, text: str) -> None:
        self._script = script
        self._text = text
        self.found: list[cst.BaseExpression] = []

    def visit_Assign(self, node: cst.Assign) -> None:
        for each in node.targets:
            if self._script.code(each.target) == self._text:
                self.found.append(node.value)
            elif isinstance(each.target, cst.Tuple):
                for element in each.target.elements:
                    if self._script.code(element.value) == self._text:
                        value = unpacked(self._script, element.value)
                        self.found += [] if value is None else [value]


# What bases took by place, and take by name, or in another place, now.
_OF_BASES = {
    "keras.layers.Layer": ("trainable", "name", "dtype"),
    "keras.Layer": ("trainable", "name", "dtype"),
    "keras.metrics.Metric": ("name", "dtype"),
    "keras.losses.Loss": ("reduction", "name"),
}


def constructed(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A class without a constructor of its own, or the call of its base's."""
    order = _order(script, node)
    by_place = [a for a in node.args if a.keyword is None and a.star != "**"]
    if len(by_place) > len(order) or any(a.star == "*" for a in node.args):
        return updated
    args = [
        keyword(order[i], _as_bool(a.value, order[i]), a)
        if i < len(by_place)
        else a
        for i, a in enumerate(updated.args)
    ]
    return updated.with_changes(args=args)


def _as_bool(value: cst.BaseExpression, name: str) -> cst.BaseExpression:
    """`trainable` is a bool now; any value was taken for one."""
    known = isinstance(value, cst.Name) and value.value in ("True", "False")
    if name != "trainable" or known:
        return value
    return cst.Call(cst.Name("bool"), [cst.Arg(value)])


def _order(script: Script, node: cst.Call) -> tuple[str, ...]:
    """The arguments by place, where a call makes an object of such a base."""
    func = node.func
    if isinstance(func, cst.Name):
        found = _class(script, func)
        if isinstance(found, cst.ClassDef):
            return _inherited(script, found)
        return ()
    begins = script.code(func)
    owner = script.within(node, cst.ClassDef)
    if (
        begins.startswith("super(")
        and begins.endswith(".__init__")
        and isinstance(owner, cst.ClassDef)
        and len(owner.bases) == 1
    ):
        return _of_base(script, owner.bases[0].value)
    return ()


def _inherited(script: Script, node: cst.ClassDef) -> tuple[str, ...]:
    """Those of a class whose constructor is that of a base itself."""
    for each in node.body.body:
        if isinstance(each, cst.FunctionDef) and each.name.value == "__init__":
            return ()
    if len(node.bases) != 1:
        return ()
    base = node.bases[0].value
    found = _class(script, base) if isinstance(base, cst.Name) else None
    if isinstance(found, cst.ClassDef) and found is not node:
        return _inherited(script, found)
    return _of_base(script, base)


def _of_base(script: Script, base: cst.BaseExpression) -> tuple[str, ...]:
    name = script.names.quiet(base) if dotted(base) else None
    return _OF_BASES.get(name or "", ())
