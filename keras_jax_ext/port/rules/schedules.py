"""`LearningRateScheduler`: in Keras 3 a schedule returns a number."""

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.script import Script

import libcst as cst

CALLBACK = "keras.callbacks.LearningRateScheduler"
HELPER = "keras_jax_ext.keras2.LearningRateScheduler"
_TENSORS = ("tensorflow.", "keras.backend.", "keras.ops.")


def rewrite(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """The callback that takes what the schedule returns."""
    schedules = [
        a.value
        for a in node.args
        if not a.star and (a.keyword is None or a.keyword.value == "schedule")
    ]
    if schedules and not _may_be_tensor(script, schedules[0]):
        return updated
    script.done(node, "`kje.keras2`: its schedule may return a tensor")
    target = cst.parse_expression(script.target(HELPER))
    return updated.with_changes(func=target)


def _may_be_tensor(script: Script, schedule: cst.BaseExpression) -> bool:
    if isinstance(schedule, cst.Lambda):
        return _calls_tensors(script, schedule)
    if not isinstance(schedule, cst.Name):
        return True
    made = [made_by(each) for each in script.names.assignments(schedule)]
    return not made or any(
        not isinstance(m, cst.FunctionDef) or _calls_tensors(script, m)
        for m in made
    )


def _calls_tensors(script: Script, function: cst.CSTNode) -> bool:
    finder = _Finder(script)
    function.visit(finder)
    return finder.found


class _Finder(cst.CSTVisitor):
    def __init__(self, script: Script) -> None:
        self._script = script
        self.found = False

    def visit_Call(self, node: cst.Call) -> None:
        name = dotted(node.func) and self._script.names.quiet(node.func)
        self.found |= (name or "").startswith(_TENSORS)
