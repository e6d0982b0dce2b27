"""Calls of layers: `layer(x, training)`, where only tensors go by position."""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.operations import keyword
from keras_jax_ext.port.script import Script

import libcst as cst

MODES = ("training", "is_training", "train", "is_train")


def by_name(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A call of a layer whose arguments behind a mode go by name."""
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


# What a layer took by place, and takes by name now.
_OF_A_LAYER = ("trainable", "name", "dtype")


def constructed(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """A layer without a constructor of its own, or the call of its base's."""
    if not _makes_a_layer(script, node) or len(node.args) > len(_OF_A_LAYER):
        return updated
    if any(a.star for a in node.args):
        return updated
    args = [
        keyword(_OF_A_LAYER[i], _as_bool(a.value, i), a)
        if a.keyword is None
        else a
        for i, a in enumerate(updated.args)
    ]
    return updated.with_changes(args=args)


def _as_bool(value: cst.BaseExpression, place: int) -> cst.BaseExpression:
    """`trainable` is a bool now; any value was taken for one."""
    known = isinstance(value, cst.Name) and value.value in ("True", "False")
    if place or known:
        return value
    return cst.Call(cst.Name("bool"), [cst.Arg(value)])


def _makes_a_layer(script: Script, node: cst.Call) -> bool:
    func = node.func
    if isinstance(func, cst.Name):
        found = _class(script, func)
        return isinstance(found, cst.ClassDef) and _is_bare(script, found)
    begins = script.code(func)
    owner = script.within(node, cst.ClassDef)
    return (
        begins.startswith("super(")
        and begins.endswith(".__init__")
        and isinstance(owner, cst.ClassDef)
        and len(owner.bases) == 1
        and _is_layer(script, owner.bases[0].value)
    )


def _is_bare(script: Script, node: cst.ClassDef) -> bool:
    """Whether the constructor of a class is that of `Layer` itself."""
    for each in node.body.body:
        if isinstance(each, cst.FunctionDef) and each.name.value == "__init__":
            return False
    if len(node.bases) != 1:
        return False
    base = node.bases[0].value
    if _is_layer(script, base):
        return True
    found = _class(script, base) if isinstance(base, cst.Name) else None
    return (
        isinstance(found, cst.ClassDef)
        and found is not node
        and _is_bare(script, found)
    )


def _is_layer(script: Script, base: cst.BaseExpression) -> bool:
    name = script.names.quiet(base) if dotted(base) else None
    return name in ("keras.layers.Layer", "keras.Layer")
