"""One optimizer of several models, which Keras 2 had before 2.11."""

from typing import Any

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules.arguments import value_of
from keras_jax_ext.port.rules.calling import values_of
from keras_jax_ext.port.rules.tape_uses import owner_of
from keras_jax_ext.port.script import Script

import libcst as cst

_SHARED = "keras_jax_ext.keras2.shared"
_LOOPS = (cst.For, cst.While)


class Sharing:
    """The optimizers of a script that have variables of several models."""

    def __init__(self, script: Script) -> None:
        self._script = script
        finder = _Finder(script)
        script.module.visit(finder)
        # Values of arguments, and calls that make an optimizer.
        self._found: set[cst.CSTNode] = set()
        self._of_compile(finder.compiled)
        self._of_loops(finder.applied)

    def argument(self, node: cst.Call, updated: cst.Call) -> cst.Call:
        """A call of `compile` whose optimizer may not be its own."""
        args = [
            new.with_changes(value=self._wrapped(old.value, new.value))
            if old.value in self._found
            else new
            for old, new in zip(node.args, updated.args, strict=True)
        ]
        same = all(a is b for a, b in zip(args, updated.args, strict=True))
        return updated if same else updated.with_changes(args=args)

    def made(
        self, node: cst.Call, updated: cst.BaseExpression
    ) -> cst.BaseExpression:
        """The making of an optimizer that updates several models by hand."""
        if node not in self._found:
            return updated
        return self._wrapped(node, updated)

    def _wrapped(self, node, value):
        self._script.done(node, f"`{_SHARED}`: several models have it")
        func = cst.parse_expression(self._script.target(_SHARED))
        return cst.Call(func, [cst.Arg(value)])

    def _of_compile(self, calls: list[cst.Call]) -> None:
        groups: dict[Any, list[cst.BaseExpression]] = {}
        for call in calls:
            value = _optimizer(call)
            if value is not None and self._may_be_optimizer(value):
                groups.setdefault(self._key(value), []).append(value)
        for values in groups.values():
            if len(values) > 1 or self._runs_again(values[0]):
                self._found |= {v for v in values if self._meets(v, values)}

    def _meets(self, value: cst.CSTNode, values: list) -> bool:
        """Whether another one may run, too, or this one more than once."""
        others = [v for v in values if v is not value]
        return not others or any(not self._excludes(value, o) for o in others)

    def _excludes(self, one: cst.CSTNode, other: cst.CSTNode) -> bool:
        """Whether two nodes are in different branches of an `if`."""
        up, there = self._script.names.up(one), self._script.names.up(other)
        common = next(n for n in up if any(n is m for m in there))
        return isinstance(common, cst.If)

    def _key(self, node: cst.BaseExpression) -> Any:
        """What stands for the object that an expression is, as it is there."""
        script, text = self._script, self._script.code(node)
        if not isinstance(node, cst.Name):
            return text, script.within(node, cst.ClassDef)
        if lines := self._lines(node):
            return text, owner_of(script, node), max(lines)
        made = [made_by(a) for a in script.names.assignments(node)]
        if len(made) == 1 and made[0] is not None:
            return text, owner_of(script, made[0]), script.names.line(made[0])
        return text, frozenset(made)

    def _lines(self, node: cst.Name) -> list[int]:
        """The lines before a name, in its function, that give it a value."""
        names = self._script.names
        here, owner = names.line(node), owner_of(self._script, node)
        made = [made_by(a) for a in names.assignments(node)]
        return [
            names.line(m)
            for m in made
            if m is not None
            and names.line(m) <= here
            and owner_of(self._script, m) is owner
        ]

    def _may_be_optimizer(self, node: cst.BaseExpression) -> bool:
        if not isinstance(node, (cst.Name, cst.Attribute)):
            return False
        if dotted(node) and self._script.names.quiet(node):
            return False
        values = values_of(self._script, node)
        return not values or any(map(self._is_made, values))

    def _is_made(self, value: cst.CSTNode) -> bool:
        if not isinstance(value, cst.Call):
            return False
        name = dotted(value.func) and self._script.names.quiet(value.func)
        return (name or "").startswith("keras.optimizers.")

    def _runs_again(self, node: cst.BaseExpression) -> bool:
        """Whether one call may get the same optimizer several times."""
        if not isinstance(node, cst.Name):
            return False
        script, names = self._script, self._script.names
        values = values_of(script, node)
        if not any(map(self._is_made, values)):
            return False
        made = [made_by(a) for a in names.assignments(node)]
        loop = script.within(node, _LOOPS)
        inside = [m for m in made if m is not None and loop in names.up(m)]
        if loop is not None and not inside:
            return True
        function = script.within(node, cst.FunctionDef)
        if not isinstance(function, cst.FunctionDef) or self._lines(node):
            return False
        calls = _calls_of(script, function)
        return len(calls) > 1 or any(script.within(c, _LOOPS) for c in calls)

    def _of_loops(self, calls: list[cst.Call]) -> None:
        groups: dict[Any, set[Any]] = {}
        owners: dict[Any, cst.BaseExpression] = {}
        for call in calls:
            assert isinstance(call.func, cst.Attribute)
            owner = call.func.value
            key = self._object(owner)
            owners[key] = owner
            groups.setdefault(key, set()).update(self._texts(call))
        for key, texts in groups.items():
            if len(texts) > 1:
                values = values_of(self._script, owners[key])
                self._found |= {v for v in values if self._is_made(v)}

    def _object(self, node: cst.BaseExpression) -> Any:
        """As `_key`, wherever it is made."""
        if isinstance(node, cst.Name):
            made = map(made_by, self._script.names.assignments(node))
            return node.value, frozenset(made)
        return self._key(node)

    def _texts(self, call: cst.Call) -> set[str]:
        """Texts of what a call updates."""
        variables = _updated(call)
        if variables is None:
            return set()
        if isinstance(variables, cst.Lambda):
            variables = variables.body
        if isinstance(variables, cst.Name):
            values = values_of(self._script, variables)
            variables = values[0] if len(values) == 1 else variables
        text = self._script.code(variables).replace("weights", "variables")
        root = variables
        while isinstance(root, (cst.Attribute, cst.Subscript)):
            root = root.value
        if not isinstance(root, cst.Name):
            return {text}
        assert isinstance(call.func, cst.Attribute)
        given = self._given(root) or self._turns(root, call.func.value)
        return {f"{text} of {g}" for g in given}

    def _given(self, root: cst.Name) -> list[Any]:
        """What the calls of a function give for an argument of it."""
        script = self._script
        for each in script.names.assignments(root):
            param = made_by(each)
            function = param and script.within(param, cst.FunctionDef)
            if isinstance(param, cst.Param) and isinstance(
                function, cst.FunctionDef
            ):
                values = [
                    _argument(function, root.value, call)
                    for call in _calls_of(script, function)
                ]
                found = [self._turns(v) for v in values if v is not None]
                return [each for turns in found for each in turns]
        return []

    def _turns(
        self,
        node: cst.BaseExpression,
        optimizer: cst.BaseExpression | None = None,
    ) -> list[Any]:
        """What stands for a value: twice, if the turns of a loop make it."""
        key = self._key(node)
        loop = self._script.within(node, _LOOPS)
        again = loop is not None and self._is_made_in(loop, node)
        if again and not self._is_made_in(loop, optimizer):
            return [key, (key, "again")]
        return [key]

    def _is_made_in(self, loop: Any, node: cst.BaseExpression | None) -> bool:
        if not isinstance(node, cst.Name):
            return False
        made = map(made_by, self._script.names.assignments(node))
        up = self._script.names.up
        return any(m is not None and loop in up(m) for m in made)


def _argument(
    function: cst.FunctionDef, name: str, call: cst.Call
) -> cst.BaseExpression | None:
    """What a call gives for an argument of a function."""
    if value := value_of(list(call.args), name):
        return value
    names = [p.name.value for p in function.params.params]
    if names[0] == "self":
        names = names[1:]
    place = names.index(name) if name in names else len(call.args)
    by_place = [a.value for a in call.args if a.keyword is None]
    return by_place[place] if place < len(by_place) else None


def _optimizer(call: cst.Call) -> cst.BaseExpression | None:
    """The optimizer that `compile` is given."""
    first = call.args[0] if call.args else None
    if first is not None and first.keyword is None and not first.star:
        return first.value
    return value_of(list(call.args), "optimizer")


def _updated(call: cst.Call) -> cst.BaseExpression | None:
    """What `apply_gradients`, or `minimize`, is given to update."""
    assert isinstance(call.func, cst.Attribute)
    args = list(call.args)
    if call.func.attr.value == "minimize":
        place = args[1].value if len(args) > 1 and not args[1].keyword else None
        return place or value_of(args, "var_list")
    pairs = args[0].value if args else None
    if not isinstance(pairs, cst.Call) or dotted(pairs.func) != "zip":
        return None
    return pairs.args[1].value if len(pairs.args) == 2 else None


def _calls_of(script: Script, function: cst.FunctionDef) -> list[cst.Call]:
    finder = _Calls(function.name.value)
    script.module.visit(finder)
    return finder.found


class _Calls(cst.CSTVisitor):
    def __init__(self, name: str) -> None:
        self._function = name
        self.found: list[cst.Call] = []

    def visit_Call(self, node: cst.Call) -> None:
        name = dotted(node.func) or ""
        if name == self._function or name == f"self.{self._function}":
            self.found.append(node)


class _Finder(cst.CSTVisitor):
    def __init__(self, script: Script) -> None:
        self._script = script
        self.compiled: list[cst.Call] = []
        self.applied: list[cst.Call] = []

    def visit_Call(self, node: cst.Call) -> None:
        if not isinstance(node.func, cst.Attribute):
            return
        if self._script.names.quiet(node.func):
            return
        if node.func.attr.value == "compile":
            self.compiled.append(node)
        elif node.func.attr.value in ("apply_gradients", "minimize"):
            self.applied.append(node)
