"""Classes of models and layers: their steps, and their random numbers."""

import re
from typing import Any

from keras_jax_ext.port.rules import compiled, hooks, variables
from keras_jax_ext.port.rules.arguments import without
from keras_jax_ext.port.rules.kinds import base_kind
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script

import libcst as cst

STEPS = ("train_step", "test_step")
SEEDS = "seed_generator"


def class_of(script: Script, node: cst.CSTNode) -> cst.ClassDef | None:
    """The class of a model or layer in whose code a node is."""
    found = script.within(node, cst.ClassDef)
    if isinstance(found, cst.ClassDef) and (
        base_kind(script, found) in ("model", "layer")
    ):
        return found
    return None


def owner_of_method(script: Script, node: cst.FunctionDef) -> Any:
    """What a function is defined in: a class, for a method."""
    return script.names.parents.get(script.names.parents[node])


def method(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """A function as a method of now, if it is one."""
    for rule in (step, resets, mode, variables.returned, hooks.given_logs):
        updated = rule(script, node, updated)
    return updated


def mode(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """`call(self, x, training)`: Keras 2 gave the mode, if nobody did."""
    owner = owner_of_method(script, node)
    if node.name.value != "call" or not isinstance(owner, cst.ClassDef):
        return updated
    params = list(updated.params.params)
    names = [p.name.value for p in params]
    if "training" not in names or base_kind(script, owner) not in (
        "model",
        "layer",
    ):
        return updated
    first = names.index("training")
    if params[first].default is not None:
        return updated
    script.done(node.name, "`training=None`")
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    none = cst.Name("None")
    params[first:] = [
        p if p.default else p.with_changes(default=none, equal=equal)
        for p in params[first:]
    ]
    return updated.with_changes(
        params=updated.params.with_changes(params=params)
    )


def resets(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """A metric's `reset_states` is `reset_state` now."""
    owner = owner_of_method(script, node)
    if (
        node.name.value != "reset_states"
        or not isinstance(owner, cst.ClassDef)
        or base_kind(script, owner) != "metric"
    ):
        return updated
    script.done(node.name, "`reset_state`")
    return updated.with_changes(name=cst.Name("reset_state"))


def step(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """A `train_step(self, data)` becomes one of JAX's."""
    owner = owner_of_method(script, node)
    if node.name.value not in STEPS or not isinstance(owner, cst.ClassDef):
        return updated
    if base_kind(script, owner) != "model" or len(node.params.params) != 2:
        return updated
    text = compiled.without_logs(script.code(node))
    gone_parts = ["compiled_metrics.metrics", "super()."]
    if not compiled.has_own_metrics(owner):
        gone_parts.append("in self.metrics")
    for gone in gone_parts:
        if gone in text:
            script.todo(
                node.name,
                f"`{gone}` of a step by hand",
                "use `self.compute_loss` and `self.metrics`, or a loss of "
                "`kje.losses`",
            )
            return updated
    if other_optimizers(node) and not _compiles(script, owner):
        script.todo(
            node.name,
            "a step with several optimizers, whose states are not the model's",
            "use `compile(updates=[kje.Update(...), ...])`",
        )
        return updated
    script.done(node.name, "`kje.keras2.stateful_step`")
    name = script.target("keras_jax_ext.keras2.stateful_step")
    mark = cst.Decorator(cst.parse_expression(name))
    return updated.with_changes(decorators=[mark, *updated.decorators])


def other_optimizers(node: cst.FunctionDef) -> bool:
    """Whether a step has an optimizer besides the one of `compile`."""
    found = False

    class Search(cst.CSTVisitor):
        def visit_Attribute(self, each: cst.Attribute) -> None:
            nonlocal found
            if each.attr.value in ("apply_gradients", "minimize", "apply"):
                found = found or cst.Module([]).code_for_node(each.value) != (
                    "self.optimizer"
                )

    node.visit(Search())
    return found


def built_by_itself(
    script: Script, node: cst.ClassDef, updated: cst.ClassDef
) -> cst.ClassDef:
    """A model without `call` cannot be built by calling it."""
    methods = {
        each.name.value
        for each in node.body.body
        if isinstance(each, cst.FunctionDef)
    }
    if (
        "train_step" not in methods
        or "call" in methods
        or _is_functional(node)
        or base_kind(script, node) != "model"
    ):
        return updated
    script.done(node.name, "a `call`, which Keras 3 builds the model by")
    outputs = compiled.outputs(script, node)
    call = cst.parse_statement(
        "# Ported. there was no call: the steps call the networks\n"
        f"def call(self, inputs):\n    return {outputs}\n"
    )
    body = [*updated.body.body, call]
    return updated.with_changes(body=updated.body.with_changes(body=body))


def _is_functional(node: cst.ClassDef) -> bool:
    """Whether a class is made of inputs and outputs, as far as is seen."""
    for each in node.body.body:
        if isinstance(each, cst.FunctionDef) and each.name.value == "__init__":
            begins = re.search(
                r"super\([^)]*\)\.__init__\(([^)]*)\)",
                cst.Module([each]).code,
            )
            given = begins[1].strip() if begins else ""
            return bool(given) and not given.startswith(("name", "**"))
    return True


def _compiles(script: Script, owner: cst.ClassDef) -> bool:
    """Whether a class calls the `compile` of Keras itself."""
    return ".compile(" in script.code(owner.body)


def eager(script: Script, node: cst.Call, updated: cst.Call) -> cst.Call:
    """`super().compile()` of a model with several optimizers.

    Their states are none of the model's, which a compiled step changes.
    """
    owner = script.within(node, cst.ClassDef)
    func = node.func
    if not (
        isinstance(owner, cst.ClassDef)
        and isinstance(func, cst.Attribute)
        and func.attr.value == "compile"
        and isinstance(func.value, cst.Call)
        and script.code(func.value.func) == "super"
    ):
        return updated
    steps = [
        each
        for each in owner.body.body
        if isinstance(each, cst.FunctionDef) and each.name.value in STEPS
    ]
    if not any(map(other_optimizers, steps)):
        return updated
    script.differs(
        node, "several optimizers: each step runs uncompiled, see kje.Update"
    )
    kept = without(list(updated.args), "run_eagerly", "jit_compile")
    value = keyword("run_eagerly", cst.Name("True"))
    starred = [a for a in kept if a.star == "**"]
    plain = [a for a in kept if a.star != "**"]
    return updated.with_changes(args=tidy([*plain, value, *starred]))


def with_seeds(script: Script, updated: cst.ClassDef) -> cst.ClassDef:
    """Give a class a generator of random numbers."""
    generator = script.target("keras.random.SeedGenerator")
    return _with_line(updated, f"self.{SEEDS} = {generator}()")


def _with_line(updated: cst.ClassDef, text: str) -> cst.ClassDef:
    """Give the constructor of a class another line."""
    line = cst.parse_statement(text)
    body = list(updated.body.body)
    for place, each in enumerate(body):
        if isinstance(each, cst.FunctionDef) and each.name.value == "__init__":
            body[place] = _behind_super(each, line)
            return updated.with_changes(
                body=updated.body.with_changes(body=body)
            )
    init = cst.parse_statement(
        "def __init__(self, *args, **kwargs):\n"
        "    super().__init__(*args, **kwargs)\n"
        f"    {text}\n"
    )
    place = 1 if is_docstring(body[0]) else 0
    if place < len(body):
        first = body[place]
        if not getattr(first, "leading_lines", None):
            body[place] = first.with_changes(
                leading_lines=[cst.EmptyLine(indent=False)]
            )
    body.insert(place, init)
    return updated.with_changes(body=updated.body.with_changes(body=body))


def _behind_super(init: cst.FunctionDef, line: cst.BaseStatement):
    body = list(init.body.body)
    place = next(
        (
            i + 1
            for i, each in enumerate(body)
            if "super(" in (code := cst.Module([]).code_for_node(each))
            and "__init__" in code
        ),
        0,
    )
    body.insert(place, line)
    return init.with_changes(body=init.body.with_changes(body=body))


def is_docstring(statement: cst.CSTNode) -> bool:
    """Whether a statement is a text alone."""
    return (
        isinstance(statement, cst.SimpleStatementLine)
        and isinstance(statement.body[0], cst.Expr)
        and isinstance(statement.body[0].value, cst.BaseString)
    )
