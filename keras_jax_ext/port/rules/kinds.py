"""What kind of object a name is, as far as the script tells."""

import re

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.script import Script

import libcst as cst

_MODELS = (
    "keras.Model",
    "keras.Sequential",
    "keras.models.Model",
    "keras.models.Sequential",
    "keras.models.load_model",
    "keras.engine.training.Model",
    "keras.engine.Model",
    "keras.engine.topology.Model",
)
_LIKE_A_MODEL = re.compile(
    r"(?i)(model|net|network|encoder|decoder|generator|discriminator|critic"
    r"|gan|vae|autoencoder|classifier|ae|cnn|rnn|lstm|teacher|student)\d*$"
)
_LAYERS = ("keras.layers.Layer", "keras.engine.topology.Layer", "keras.Layer")


def base_kind(script: Script, node: cst.ClassDef) -> str | None:
    """`"model"`, `"layer"` or `"metric"` for a class that derives from one."""
    for base in node.bases:
        name = dotted(base.value) and script.names.quiet(base.value)
        if name in _MODELS:
            return "model"
        if name in _LAYERS or (name or "").startswith("keras.layers."):
            return "layer"
        if (name or "").startswith("keras.metrics."):
            return "metric"
        if isinstance(base.value, cst.Name):
            for each in script.names.assignments(base.value):
                inner = made_by(each)
                if isinstance(inner, cst.ClassDef) and inner is not node:
                    return base_kind(script, inner)
    return None


def has_no_config(script: Script, node: cst.ClassDef) -> bool:
    """Whether a model cannot be made again from a file.

    Its constructor has arguments of its own, and there is no `get_config`.
    """
    methods = {
        each.name.value: each
        for each in node.body.body
        if isinstance(each, cst.FunctionDef)
    }
    init = methods.get("__init__")
    return (
        base_kind(script, node) == "model"
        and "get_config" not in methods
        and init is not None
        and len(init.params.params) > 1
    )


def class_of(script: Script, node: cst.BaseExpression) -> cst.ClassDef | None:
    """The class of the script that an object is made of."""
    if not isinstance(node, cst.Name):
        return None
    for each in script.names.assignments(node):
        value = script.names.value(each)
        if isinstance(value, cst.Call) and isinstance(value.func, cst.Name):
            for made in script.names.assignments(value.func):
                found = made_by(made)
                if isinstance(found, cst.ClassDef):
                    return found
    return None


def iterated(script: Script, made: cst.CSTNode | None) -> str:
    """The text of what a loop goes through that gives a name its value."""
    for each in script.names.up(made)[:4] if made is not None else ():
        if isinstance(each, (cst.For, cst.CompFor)):
            return script.code(each.iter)
    return ""


def _is_made_of_built(script: Script, node: cst.ClassDef) -> bool:
    """Whether a model without `call` has its weights before any use."""
    methods = {
        each.name.value: each
        for each in node.body.body
        if isinstance(each, cst.FunctionDef)
    }
    init = methods.get("__init__")
    if base_kind(script, node) != "model" or init is None:
        return False
    if methods.keys() & {"call", "train_step"}:  # a step is given a call, too
        return False
    finder = _Parts(script)
    init.visit(finder)
    return finder.made and finder.built


class _Parts(cst.CSTVisitor):
    """What an `__init__` makes its object of: built, or by the first call."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.made = False
        self.built = True

    def visit_Assign(self, node: cst.Assign) -> bool:
        script = self._script
        owners = [
            script.code(each.target.value)
            for each in node.targets
            if isinstance(each.target, cst.Attribute)
        ]
        if "self" in owners:
            self.made = True
            self.built = self.built and self._is_built(node.value)
        return False

    def _is_built(self, node: cst.BaseExpression) -> bool:
        call = node.func if isinstance(node, cst.Call) else None
        name = call and dotted(call) and self._script.names.quiet(call)
        if not (name or "").startswith(("keras.layers.", *_SEQUENTIAL)):
            return True
        return bool(_SHAPED.search(self._script.code(node)))


_SEQUENTIAL = ("keras.Sequential", "keras.models.Sequential")
_SHAPED = re.compile(r"\b(Input|InputLayer)\(|\b(batch_)?input_(shape|dim)=")
_BUILDS = (
    r"\b{}(\(|\.built *=|"
    r"\.(build|fit|predict|evaluate|train_on_batch|summary)\()"
)


def is_unbuilt(script: Script, node: cst.Call) -> bool:
    """Whether a method is called of a model of a class that was never called.

    A class of the script builds its layers in the first call.
    """
    assert isinstance(node.func, cst.Attribute)
    name = node.func.value
    owner = class_of(script, name)
    if not isinstance(name, cst.Name) or owner is None:
        return False
    if _is_made_of_built(script, owner):
        return False
    here = script.names.line(node)
    made = [
        script.names.line(made_by(each))
        for each in script.names.assignments(name)
        if isinstance(script.names.value(each), cst.Call)
    ]
    last = max((line for line in made if line < here), default=here)
    between = script.text.splitlines()[last : here - 1]
    uses = re.compile(_BUILDS.format(re.escape(name.value)))
    return not any(uses.search(line) for line in between)


def may_be_model(
    script: Script, node: cst.BaseExpression, by_name: bool = True
) -> bool:
    """Whether an object is a model, by its value or by its name."""
    if isinstance(node, cst.Name):
        for each in script.names.assignments(node):
            value = script.names.value(each)
            if isinstance(value, cst.Call) and _makes_model(script, value):
                return True
        return by_name and bool(_LIKE_A_MODEL.search(node.value))
    if isinstance(node, cst.Attribute):
        return by_name and bool(_LIKE_A_MODEL.search(node.attr.value))
    return isinstance(node, cst.Call) and _makes_model(script, node)


def _makes_model(script: Script, call: cst.Call) -> bool:
    name = dotted(call.func) and script.names.quiet(call.func)
    if name:
        return name in _MODELS or name.startswith("keras.applications.")
    if isinstance(call.func, cst.Name):
        for each in script.names.assignments(call.func):
            inner = made_by(each)
            if isinstance(inner, cst.ClassDef):
                return base_kind(script, inner) == "model"
    return False
