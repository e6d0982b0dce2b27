"""`tf.GradientTape`: the body becomes a function of `kje.value_and_grad`."""

import textwrap
from typing import Any, NamedTuple

from keras_jax_ext.port.rules import names
from keras_jax_ext.port.rules.flow import flow, names_in
from keras_jax_ext.port.rules.tape_nones import may_be_none
from keras_jax_ext.port.rules.tape_reads import read_names
from keras_jax_ext.port.rules.tape_sources import (
    arguments,
    calls_tensorflow,
    check_sources,
    sources_of,
    stored,
    weighed,
)
from keras_jax_ext.port.rules.tape_uses import (
    Binder,
    Left,
    check_own,
    gradient_calls,
    live,
    owner_of,
    parameters_of,
    watched_names,
)
from keras_jax_ext.port.rules.tensorflow import TAPE
from keras_jax_ext.port.script import Script

import libcst as cst


class Gradient(NamedTuple):
    """A call of `tape.gradient`.

    Attributes:
        node: The call.
        target: Text of what is differentiated.
        sources: Text of what it is differentiated by.
        name: Text of what the gradient is assigned to.
    """

    node: cst.Call
    target: str
    sources: str
    name: str


class Plan(NamedTuple):
    """What becomes of one `with tf.GradientTape()`.

    Attributes:
        function: Name of the function.
        parameters: Names that it needs as arguments.
        gradients: List of `Gradient`.
        outs: Names that are read behind the body.
        reads: Names in the body whose values are read.
        absent: Whether a gradient may be `None`, which the script asks for.
    """

    function: str
    parameters: list[str]
    gradients: list[Gradient]
    outs: list[str]
    reads: set[cst.CSTNode]
    absent: bool


class Tapes:
    """The tapes of a script, planned before anything is rewritten."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.plans: dict[cst.CSTNode, Plan] = {}
        self.names: dict[cst.CSTNode, str] = {}
        self.removed: set[cst.CSTNode] = set()
        finder = _Finder(script)
        script.module.visit(finder)
        for node in finder.found:
            self._plan(node)

    def _plan(self, node: cst.With) -> None:
        try:
            removed: list[cst.CSTNode] = []
            plan = _planned(self._script, node, removed)
        except Left as error:
            self._script.todo(
                node.items[0].item,
                f"this tape: {error}",
                "write its body as a function, and use `kje.value_and_grad`",
            )
            self._claim(node)  # it is said
            names.keep(self._script, _call_of(node.items[0]).func)
            return
        self.plans[node] = plan
        self._script.read_in_tapes |= plan.reads
        self.removed |= set(removed)
        self._claim(node)
        for each in plan.gradients:
            self.names[each.node] = each.name

    def _claim(self, node: cst.With) -> None:
        self._script.claimed |= {_call_of(item).func for item in node.items}


def _call_of(item: cst.WithItem) -> cst.Call:
    assert isinstance(item.item, cst.Call)
    return item.item


class _Finder(cst.CSTVisitor):
    def __init__(self, script: Script) -> None:
        self._script = script
        self.found: list[cst.With] = []

    def visit_With(self, node: cst.With) -> None:
        tapes = [
            isinstance(i.item, cst.Call)
            and self._script.names.quiet(i.item.func) == TAPE
            for i in node.items
        ]
        if all(tapes):
            self.found.append(node)


def _planned(script: Script, node: cst.With, removed: list) -> Plan:
    tapes = []
    for item in node.items:
        if item.asname is None or not isinstance(item.asname.name, cst.Name):
            raise Left("it has no name")
        tapes.append(item.asname.name.value)
    behind = _behind(script, node, tapes)
    code = _text(script, node.body)
    found = flow(code)
    if found.leaves:
        raise Left(f"its body has a `{found.leaves[0]}`")
    watched = watched_names(script, node, tapes, removed)
    calls = gradient_calls(script, node, behind, tapes, removed)
    assigned = [n for n in found.assigned if n not in tapes]
    if set(watched) & set(assigned):
        raise Left("it watches a value that its body computes")
    check_own(script, node, assigned)
    outs = live(script, node, assigned, found)
    reads = read_names(script, node.body, assigned)
    gradients = [
        _gradient(script, node, behind, c, assigned, watched, removed)
        for c in calls
    ]
    parameters = parameters_of(script, node, found, assigned, outs)
    parameters += [n for n in watched if n not in parameters]
    done = "`kje.value_and_grad`"
    script.done(node.items[0].item, done)
    absent = may_be_none(script, calls, [g.name for g in gradients], code)
    if absent and len(gradients) > 1:
        raise Left("one of its several gradients may be `None`")
    name = script.fresh("forward")
    return Plan(name, parameters, gradients, outs, reads, absent)


def _text(script: Script, body: cst.BaseSuite) -> str:
    if isinstance(body, cst.IndentedBlock):
        whole = cst.Module([])
        lines = "".join(map(whole.code_for_node, body.body))
        return textwrap.dedent(lines)
    return script.code(body).strip()


def _behind(
    script: Script, node: cst.With, tapes: list[str]
) -> list[cst.BaseStatement]:
    """The statements behind a tape, up to where its name is taken again."""
    parent = script.names.parents[node]
    body = getattr(parent, "body", None)
    if body is None or node not in body:
        raise Left("its place is not known")
    found = []
    for statement in body[list(body).index(node) + 1 :]:
        binder = Binder(script, tapes, owner_of(script, node))
        statement.visit(binder)
        if binder.found:
            break
        found.append(statement)
    return found


def _gradient(
    script, node, behind, call, assigned, watched, removed
) -> Gradient:
    target, sources, given = arguments(call)
    line = script.statement(call)
    top = next(s for s in behind if s in script.names.up(call))
    between = stored(script, behind[: behind.index(top)])
    text = script.code(target)
    if calls_tensorflow(script, target) or names_in(text) & between:
        raise Left("its target is computed behind it")
    if given is not None:
        text = weighed(script, target, given, between)
    by = sources_of(script, behind[: behind.index(top)], sources, between)
    check_sources(script, sources, assigned, watched)
    name = None
    first = isinstance(line, cst.SimpleStatementLine) and line in behind
    first = first and set(behind[: behind.index(line)]) <= set(removed)
    if first and len(line.body) == 1 and isinstance(line.body[0], cst.Assign):
        assign = line.body[0]
        if assign.value is call and len(assign.targets) == 1:
            name = script.code(assign.targets[0].target)
            if "," in name and name[0] not in "([":
                name = f"({name})"
            removed.append(line)
    return Gradient(call, text, by, name or script.fresh("gradients"))


def built(
    script: Script, plan: Plan, updated: cst.With
) -> list[cst.BaseStatement]:
    """The function, and the line that calls it."""
    several = len(plan.gradients) > 1
    targets = [g.target for g in plan.gradients]
    value = f"({', '.join(targets)})" if several else targets[0]
    outs = [n for n in plan.outs if n not in targets]
    aux = f"({', '.join(outs)},)" if outs else ""
    given = ", ".join(plan.parameters)
    back = cst.parse_statement(
        f"return {value}, {aux}" if aux else f"return {value}"
    )
    body: Any = updated.body
    inner: list[Any] = list(body.body)
    if isinstance(body, cst.SimpleStatementSuite):
        inner = [cst.SimpleStatementLine(body.body)]
        body = cst.IndentedBlock(inner)
    function = cst.FunctionDef(
        cst.Name(plan.function),
        cst.Parameters([cst.Param(cst.Name(n)) for n in plan.parameters]),
        body.with_changes(body=[*inner, back]),
        leading_lines=updated.leading_lines,
    )
    seen: set[str] = set()
    kept = []
    for target in targets:
        live = target in plan.outs and target not in seen
        kept.append(target if live else "_")
        seen.add(target)
    left = f"({', '.join(kept)})" if several else kept[0]
    left = f"({left}, {aux})" if aux else left
    if several:
        grads = f"({', '.join(g.name for g in plan.gradients)})"
        by = ", ".join(f"lambda: {g.sources}" for g in plan.gradients)
        by = f"({by})"
    else:
        grads = plan.gradients[0].name
        by = f"lambda: {plan.gradients[0].sources}"
    helper = script.target("keras_jax_ext.value_and_grad")
    more = ", has_aux=True" if aux else ""
    more += ', unconnected_gradients="none"' if plan.absent else ""
    call = f"{helper}({plan.function}, {by}{more})({given})"
    line = cst.parse_statement(f"{left}, {grads} = {call}")
    return [function, line]
