"""What a `train_step` of Keras 2 has of `compile`: its loss and metrics."""

import re

from keras_jax_ext.port.script import Script

import libcst as cst

# The logs that such a step returns.
_LOGS = re.compile(
    r"\{\s*(\w+)\.name\s*:\s*\1\.result\(\) for \1 in self\.metrics\s*\}"
)
_LOSS = re.compile(r"self\.(compiled_loss|compute_loss)|name=[\"']loss[\"']")
_HELPERS = {
    "self.compiled_loss": "compiled_loss",
    "self.compiled_metrics.update_state": "update_compiled_metrics",
}


def call(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call | None:
    """`self.compiled_loss(...)` and the like as calls of helpers."""
    helper = _HELPERS.get(script.code(node.func))
    if helper is None:
        return None
    target = script.target(f"keras_jax_ext.keras2.{helper}")
    script.done(node, f"`{target}`")
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    first = cst.Arg(cst.Name("self"), comma=comma)
    return updated.with_changes(
        func=cst.parse_expression(target), args=[first, *updated.args]
    )


def logs(
    script: Script, node: cst.DictComp, updated: cst.DictComp
) -> cst.BaseExpression:
    """`{m.name: m.result() for m in self.metrics}`, where they are Keras's."""
    owner = script.within(node, cst.ClassDef)
    if not _LOGS.fullmatch(script.code(node)) or has_own_metrics(owner):
        return updated
    script.done(node, "`self.get_metrics_result()`")
    logs = "self.get_metrics_result()"
    if owner is not None and not _LOSS.search(script.code(owner)):
        # Keras 2 counted no loss then.
        logs = f'{{k: v for k, v in {logs}.items() if k != "loss"}}'
    return cst.parse_expression(logs)


def outputs(script: Script, node: cst.ClassDef) -> str:
    """What a step gives to the metrics, computed of the model's `inputs`."""
    text = script.code(node)
    used = re.search(r"self\.compiled_\w+(\.update_state)?\(\w+, (\w+)", text)
    if used is None:
        return "inputs"
    call = re.search(rf"\b{used[2]} = (self\.\w+)\((\w+)[,)]", text)
    if call is not None:
        return f"{call[1]}(inputs)"
    script.todo(
        node.name,
        "metrics of outputs that only its step computes",
        "write a `call` that returns them",
    )
    return "inputs"


def has_own_metrics(owner: cst.CSTNode | None) -> bool:
    """Whether a class says itself which metrics it has."""
    return isinstance(owner, cst.ClassDef) and any(
        isinstance(each, cst.FunctionDef) and each.name.value == "metrics"
        for each in owner.body.body
    )


def without_logs(text: str) -> str:
    """A step without what is rewritten here."""
    return _LOGS.sub("", text)
