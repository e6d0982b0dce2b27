"""Lists that `evaluate` and its like return, in the order of Keras 2."""

from typing import Any

from keras_jax_ext.port.resolve import dotted
from keras_jax_ext.port.rules.arguments import value_of
from keras_jax_ext.port.rules.kinds import class_of, may_be_model
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script

import libcst as cst

_METHODS = ("train_on_batch", "test_on_batch")
_EVALUATE = ("evaluate", "evaluate_generator")
_MODELS = ("keras.Model", "keras.models.Model", "keras.engine.training.Model")


class Results:
    """The lists of a script, where models may have several outputs."""

    def __init__(self, script: Script) -> None:
        self._script = script
        finder = _Finder(script)
        script.module.visit(finder)
        self.several = finder.found

    def rewrite(self, node: cst.Call, updated: Any) -> cst.BaseExpression:
        """A call whose list Keras 3 has in another order."""
        if (
            not self.several
            or not isinstance(updated, cst.Call)
            or not isinstance(node.func, cst.Attribute)
            or any(a.star for a in node.args)
            or value_of(list(node.args), "return_dict") is not None
            or not self._is_of_model(node.func)
        ):
            return updated
        target = self._script.target("keras_jax_ext.keras2.as_list")
        owner = self._script.code(node.func.value)
        value = keyword("return_dict", cst.Name("True"))
        call = updated.with_changes(args=tidy([*updated.args, value]))
        self._script.done(node, f"`{target}`: the order of the outputs")
        return cst.Call(
            cst.parse_expression(target),
            tidy([cst.Arg(cst.parse_expression(owner)), cst.Arg(call)]),
        )

    def _is_of_model(self, func: cst.Attribute) -> bool:
        if func.attr.value in _METHODS:
            return self._script.code(func.value) not in ("self", "super()")
        if func.attr.value not in _EVALUATE:
            return False
        if class_of(self._script, func.value) is not None:
            return may_be_model(self._script, func.value, by_name=False)
        return may_be_model(self._script, func.value)


def names(
    script: Script, node: cst.Attribute, updated: cst.Attribute
) -> cst.BaseExpression:
    """`model.metrics_names`, which are those of the list in Keras 2."""
    if node.attr.value != "metrics_names":
        return updated
    target = script.target("keras_jax_ext.keras2.metrics_names")
    script.done(node, f"`{target}`")
    return cst.Call(cst.parse_expression(target), [cst.Arg(updated.value)])


class _Finder(cst.CSTVisitor):
    def __init__(self, script: Script) -> None:
        self._script = script
        self.found = False

    def visit_Call(self, node: cst.Call) -> None:
        args = list(node.args)
        func = node.func
        if isinstance(func, cst.Attribute) and func.attr.value == "compile":
            weighed = value_of(args, "weighted_metrics")
            self.found |= bool(getattr(weighed, "elements", weighed))
            for key in ("loss", "loss_weights"):
                self.found |= _is_several(value_of(args, key))
        name = dotted(func) and self._script.names.quiet(func)
        if name in _MODELS:
            outputs = value_of(args, "outputs") or value_of(args, "output")
            if outputs is None and len(args) > 1 and args[1].keyword is None:
                outputs = args[1].value
            self.found |= any(map(_is_several, self._values(outputs)))

    def _values(self, node: cst.BaseExpression | None) -> list[Any]:
        if not isinstance(node, cst.Name):
            return [node]
        names = self._script.names
        return [names.value(each) for each in names.assignments(node)]


def _is_several(node: cst.BaseExpression | None) -> bool:
    return (
        isinstance(node, (cst.List, cst.Tuple, cst.Dict, cst.ListComp))
        # One that is empty here is filled later.
        and len(getattr(node, "elements", ())) != 1
    )
