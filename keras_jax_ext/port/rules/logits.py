"""Losses that Keras 2 computed of the logits, whatever it was told.

Outputs of `activation="softmax"` and `"sigmoid"` kept their logits there, and
any cross-entropy took those: `from_logits=True` of probabilities was right, a
binary cross-entropy of a softmax was that of sigmoids of the same logits.
"""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.arguments import value_of
from keras_jax_ext.port.rules.calling import values_of
from keras_jax_ext.port.script import Script

import libcst as cst

# Losses, and the activation whose probabilities they are of.
_OF = {
    "binary_crossentropy": "sigmoid",
    "BinaryCrossentropy": "sigmoid",
    "categorical_crossentropy": "softmax",
    "CategoricalCrossentropy": "softmax",
    "sparse_categorical_crossentropy": "softmax",
    "SparseCategoricalCrossentropy": "softmax",
}
_CLASSES = [name for name in _OF if name[0].isupper()]
_ACTIVATIONS = ("sigmoid", "softmax")
_MODELS = ("keras.Sequential", "keras.models.Sequential")
_FUNCTIONAL = ("keras.Model", "keras.models.Model")
_DEEPEST = 6  # models within models


def mark(script: Script) -> None:
    """Note such losses, and refuse those that another one would replace."""
    finder = _Finder(script)
    script.module.visit(finder)
    outputs = _Outputs(script, finder.adds)
    of_models = []
    for model, loss in finder.compiled:
        found = outputs.of(model, script.names.line(loss), 0)
        of_models.append(found)
        for each in _losses(script, loss):
            _judged(script, each, found)
            finder.objects.discard(each)
    # Losses that are called by hand are of the one kind of outputs there is.
    of_models += [outputs.of(m, 10**9, 0) for m in finder.models]
    kinds = set(of_models)
    if len(kinds) == 1:
        for each in finder.objects:
            _judged(script, each, kinds.pop() if len(kinds) == 1 else None)
            kinds = set(of_models)


def _losses(script: Script, loss: cst.BaseExpression) -> list[Any]:
    """A loss of `compile`, by its name if it has one."""
    return values_of(script, loss) if isinstance(loss, cst.Name) else [loss]


def _judged(script: Script, loss: Any, activation: str | None) -> None:
    name, logits = _kind(script, loss)
    usual = _OF.get(name)
    if usual is None or activation not in _ACTIVATIONS:
        return
    if activation == usual:
        if logits:
            script.of_outputs.add(loss)
        return
    script.todo(
        loss,
        f"Keras 2 computed it of the logits of `{activation}`, Keras 3 does of "
        "its outputs",
        f"give the last layer no activation, the loss `from_logits=True`, and "
        f"take `keras.ops.{activation}` of what is predicted",
    )


def _kind(script: Script, loss: Any) -> tuple[str, bool]:
    """The name of a loss, and whether it is said to be of logits."""
    if isinstance(loss, cst.SimpleString):
        return str(loss.evaluated_value), False
    called = isinstance(loss, cst.Call)
    func = loss.func if called else loss
    whole = script.names.quiet(func) if dotted(func) else None
    if not whole or not whole.startswith(("keras.losses.", "keras.metrics.")):
        return "", False
    given = value_of(list(loss.args), "from_logits") if called else None
    logits = given is not None and script.code(given) == "True"
    return whole.rpartition(".")[2], logits


class _Finder(cst.CSTVisitor):
    """Finds the models that are compiled, their losses, and other losses."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.compiled: list[tuple[Any, Any]] = []
        self.objects: set[cst.Call] = set()
        self.models: list[Any] = []
        # What is added to models, by the name of the model.
        self.adds: list[tuple[str, cst.Call]] = []

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        names = [self._script.names.quiet(b.value) for b in node.bases]
        if any(name in _FUNCTIONAL for name in names):
            self.models.append(node)

    def visit_Call(self, node: cst.Call) -> None:
        script, func = self._script, node.func
        name = script.names.quiet(func) if dotted(func) else None
        if name in (*_MODELS, *_FUNCTIONAL):
            self.models.append(node)
        elif (name or "").startswith("keras.losses.") and (
            _kind(script, node)[0] in _CLASSES
        ):
            self.objects.add(node)
        if not isinstance(func, cst.Attribute):
            return
        if func.attr.value == "add" and node.args:
            self.adds.append((script.code(func.value), node))
        elif func.attr.value == "compile":
            loss = value_of(list(node.args), "loss")
            if (
                loss is None
                and len(node.args) > 1
                and (node.args[1].keyword is None)
            ):
                loss = node.args[1].value
            if loss is not None:
                self.compiled.append((func.value, loss))


class _Outputs:
    """The activation of the last layer of a model, as far as is seen."""

    def __init__(self, script: Script, adds: list[tuple[str, cst.Call]]):
        self._script = script
        self._adds = adds

    def of(self, node: Any, line: int, depth: int) -> str | None:
        """That of a model, or of a tensor, that has a value at a line."""
        if depth > _DEEPEST:
            return None
        if isinstance(node, cst.Name):
            return self._of_name(node, line, depth)
        if isinstance(node, cst.ClassDef):
            return self._of_class(node, depth)
        if not isinstance(node, cst.Call):
            return None
        name = self._callee(node)
        if name in _MODELS:
            return self._of_sequential(node, line)
        if name in _FUNCTIONAL:
            given = value_of(list(node.args), "outputs")
            if given is None and len(node.args) > 1:
                given = node.args[1].value
            here = self._script.names.line(node) + 1
            return self.of(given, here, depth + 1)
        if isinstance(node.func, cst.Call):
            return self._of_layer(node.func)
        if isinstance(node.func, cst.Name):
            return self._of_function(node.func, depth)
        return None

    def _callee(self, node: cst.Call) -> str | None:
        func = node.func
        return self._script.names.quiet(func) if dotted(func) else None

    def _of_name(self, node: cst.Name, line: int, depth: int) -> str | None:
        names = self._script.names
        made = [
            (names.line(made_by(a)), names.value(a))
            for a in names.assignments(node)
            if made_by(a) is not None
        ]
        before = [each for each in made if each[0] < line]
        if not before:
            return None
        place, value = max(before, key=lambda each: each[0])
        if isinstance(value, cst.Call) and self._callee(value) in _MODELS:
            return self._of_sequential(value, line, node.value)
        return self.of(value, place, depth + 1)

    def _of_sequential(
        self, node: cst.Call, line: int, name: str = ""
    ) -> str | None:
        begins = self._script.names.line(node)
        last: Any = None
        if node.args and isinstance(node.args[0].value, cst.List):
            elements = node.args[0].value.elements
            last = elements[-1].value if elements else None
        for owner, call in self._adds:
            if owner == name and begins < self._script.names.line(call) < line:
                last = call.args[0].value
        return self._of_layer(last) if isinstance(last, cst.Call) else None

    def _of_layer(self, node: cst.Call) -> str | None:
        name = self._callee(node) or ""
        short = name.rpartition(".")[2]
        if not name.startswith("keras.layers."):
            return None
        given: Any = value_of(list(node.args), "activation")
        place = {"Dense": 1, "Activation": 0}.get(short)
        if given is None and place is not None and len(node.args) > place:
            arg = node.args[place]
            given = arg.value if arg.keyword is None else None
        if isinstance(given, cst.SimpleString):
            return str(given.evaluated_value)
        whole = self._script.names.quiet(given) if dotted(given) else None
        if whole and whole.startswith("keras.activations."):
            return whole.rpartition(".")[2]
        return "linear" if given is None and short == "Dense" else None

    def _of_function(self, name: cst.Name, depth: int) -> str | None:
        for each in self._script.names.assignments(name):
            made = made_by(each)
            if isinstance(made, cst.ClassDef):
                return self._of_class(made, depth)
            if isinstance(made, cst.FunctionDef):
                return self._of_return(made, depth)
        return None

    def _of_class(self, node: cst.ClassDef, depth: int) -> str | None:
        for each in node.body.body:
            if isinstance(each, cst.FunctionDef) and each.name.value == "call":
                return self._of_return(each, depth)
        return None

    def _of_return(self, node: cst.FunctionDef, depth: int) -> str | None:
        last = node.body.body[-1]
        small = getattr(last, "body", [None])
        value = small[0] if isinstance(small, (list, tuple)) else None
        if not isinstance(value, cst.Return) or value.value is None:
            return None
        found: Any = value.value
        if isinstance(found, cst.Call) and (
            self._script.code(found.func).startswith("self.")
        ):
            layers = values_of(self._script, found.func)
            calls = [x for x in layers if isinstance(x, cst.Call)]
            return self._of_layer(calls[0]) if len(calls) == 1 else None
        return self.of(found, self._script.names.line(value), depth + 1)
