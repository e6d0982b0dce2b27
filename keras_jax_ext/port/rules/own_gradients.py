"""`@tf.custom_gradient`, where JAX's rules of a gradient are the same."""

from keras_jax_ext.port.script import Script

import libcst as cst

NAME = "tensorflow.custom_gradient"
NOW = "keras.ops.custom_gradient"


def is_plain(script: Script, node: cst.Decorator) -> bool:
    """Whether a function of arrays returns one value and its rule."""
    if script.names.quiet(node.decorator) != NAME:
        return False
    function = script.names.parents[node]
    if not isinstance(function, cst.FunctionDef):
        return False
    count = _count(function.params)
    rules = _rules(script, function)
    return count > 0 and bool(rules) and all(_fits(r, count) for r in rules)


def _count(params: cst.Parameters) -> int:
    """How many plain arguments there are, and 0 if there are others."""
    plain = params.params
    others = (
        params.kwonly_params
        or params.star_kwarg
        or isinstance(params.star_arg, cst.Param)
        or any(p.default is not None or p.name.value == "self" for p in plain)
    )
    return 0 if others else len(plain)


def _rules(script: Script, function: cst.FunctionDef) -> list[cst.CSTNode]:
    """The rules that `return value, rule` names; none if one is not seen."""
    finder = _Returns(function)
    function.visit(finder)
    found: list[cst.CSTNode] = []
    for value in finder.found:
        if not isinstance(value, cst.Tuple) or len(value.elements) != 2:
            return []
        result, rule = (each.value for each in value.elements)
        if isinstance(result, (cst.Tuple, cst.List)):
            return []
        if isinstance(rule, cst.Name):
            made = [n for n in finder.inner if n.name.value == rule.value]
            if len(made) != 1:
                return []
            found.append(made[0])
        else:
            found.append(rule)
    return found


def _fits(rule: cst.CSTNode, count: int) -> bool:
    """Whether a rule takes one gradient, and returns one for each argument."""
    if isinstance(rule, cst.Lambda):
        values = [rule.body]
    elif isinstance(rule, cst.FunctionDef):
        finder = _Returns(rule)
        rule.visit(finder)
        values = finder.found
    else:
        return False
    if _count(rule.params) != 1 or not values:
        return False
    if count == 1:
        return not any(isinstance(v, (cst.List, cst.Tuple)) for v in values)
    return all(
        isinstance(v, cst.Tuple) and len(v.elements) == count for v in values
    )


class _Returns(cst.CSTVisitor):
    """What a function returns, and the functions that are made in it."""

    def __init__(self, function: cst.FunctionDef) -> None:
        self._function = function
        self.found: list[cst.BaseExpression] = []
        self.inner: list[cst.FunctionDef] = []

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        if node is self._function:
            return True
        self.inner.append(node)
        return False

    def visit_Return(self, node: cst.Return) -> None:
        if node.value is not None:
            self.found.append(node.value)
