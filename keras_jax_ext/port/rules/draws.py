"""Random numbers: those of a layer come from a generator of its own."""

from keras_jax_ext.port.rules.arguments import value_of, without
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.rules.training import SEEDS, class_of
from keras_jax_ext.port.script import Script

import libcst as cst

_DRAWS = (
    "tensorflow.random.normal",
    "tensorflow.random.uniform",
    "tensorflow.random.truncated_normal",
    "tensorflow.random.shuffle",
    "tensorflow.random.categorical",
    "tensorflow.nn.dropout",
    "keras.backend.dropout",
    "keras.backend.random_normal",
    "keras.backend.random_uniform",
    "keras.backend.truncated_normal",
)
_MADE_IN = ("__init__", "build")


def mark(script: Script) -> None:
    """Note the functions that methods of layers call, and those that draw."""
    finder = _Functions(script)
    script.module.visit(finder)
    for method in finder.methods:
        owner = class_of(script, method)
        if owner is None:
            continue
        reached = finder.reached(method)
        script.traced |= reached
        if not reached & finder.drawing:
            continue
        script.drawing.add(owner)
        script.lending.add(method)
        script.borrowing |= reached & finder.drawing


class _Functions(cst.CSTVisitor):
    """Methods, and functions by their names: which draw, and what they call."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.methods: list[cst.FunctionDef] = []
        self.drawing: set[cst.FunctionDef] = set()
        self._functions: dict[str, cst.FunctionDef] = {}
        self._names: dict[cst.CSTNode, set[str]] = {}

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        owner = self._script.within(node, (cst.FunctionDef, cst.ClassDef))
        if isinstance(owner, cst.ClassDef):
            first = [p.name.value for p in node.params.params[:1]]
            if first == ["self"] and node.name.value not in _MADE_IN:
                self.methods.append(node)
        else:
            self._functions[node.name.value] = node

    def visit_Call(self, node: cst.Call) -> None:
        function = self._script.within(node, cst.FunctionDef)
        if isinstance(function, cst.FunctionDef):
            if self._script.names.quiet(node.func) in _DRAWS:
                self.drawing.add(function)
            if isinstance(node.func, cst.Name):
                called = self._names.setdefault(function, set())
                called.add(node.func.value)

    def reached(self, function: cst.FunctionDef) -> set[cst.FunctionDef]:
        """The functions that a method calls, and those that they call."""
        found: set[cst.FunctionDef] = set()
        left = [function]
        while left:
            names = self._names.get(left.pop(), set())
            more = {self._functions[n] for n in names if n in self._functions}
            left += more - found
            found |= more
        return found


def lent(
    script: Script, node: cst.FunctionDef, updated: cst.FunctionDef
) -> cst.FunctionDef:
    """A method of a layer whose functions draw from its generator."""
    if node not in script.lending:
        return updated
    script.done(node.name, "its functions draw by the generator of the layer")
    name = script.target("keras_jax_ext.keras2.draws")
    mark = cst.Decorator(cst.parse_expression(name))
    return updated.with_changes(decorators=[*updated.decorators, mark])


def seeded(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.Call:
    """Random numbers of a layer come from a generator of its own."""
    if name not in _DRAWS:
        return updated
    before, given = updated, value_of(list(updated.args), "seed")
    if given is not None:
        kept = without(list(updated.args), "seed")
        updated = updated.with_changes(args=tidy(kept))
    owner = class_of(script, node)
    method = _method(script, node)
    if owner is not None and isinstance(method, cst.FunctionDef):
        if method.name.value in _MADE_IN:
            return before
        if (
            not method.params.params
            or method.params.params[0].name.value != "self"
        ):
            script.todo(node, "it draws without `self`", "give it a seed")
            return updated
        script.drawing.add(owner)
        seed = cst.parse_expression(f"self.{SEEDS}")
    elif _in_lambda_layer(script, node) or _is_borrowing(script, node):
        name = script.target("keras_jax_ext.keras2.layer_seed")
        seed = cst.parse_expression(f"{name}()")
    elif given is not None and script.code(given) != "None":
        # An integer would give the same numbers in each call.
        name = script.target("keras_jax_ext.keras2.seeded")
        seed = cst.parse_expression(f"{name}({script.code(given)})")
    else:
        return updated
    return updated.with_changes(
        args=tidy([*updated.args, keyword("seed", seed)])
    )


def initializer(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.Call:
    """`tf.random_normal_initializer()` draws anew for each weight.

    Keras's own initializers of no seed give equal shapes equal values, in
    Keras 2, too.
    """
    parent = script.names.parents.get(node)
    called = isinstance(parent, cst.Call) and parent.func is node
    of_tensorflow = script.code(node.func).endswith(
        ("normal_initializer", "uniform_initializer")
    )
    by_place = sum(a.keyword is None for a in updated.args)
    if name not in _INITIALIZERS or called or not of_tensorflow or by_place > 2:
        return updated
    if value_of(list(updated.args), "seed") is not None:
        return updated
    made = f"{script.target('keras.random.SeedGenerator')}()"
    seed = keyword("seed", cst.parse_expression(made))
    return updated.with_changes(args=tidy([*updated.args, seed]))


_INITIALIZERS = (
    "keras.initializers.RandomNormal",
    "keras.initializers.RandomUniform",
)


def _method(script: Script, node: cst.CSTNode) -> cst.CSTNode | None:
    """The method that a node is in; functions within it see its `self`."""
    found = None
    for each in script.names.up(node):
        if isinstance(each, cst.ClassDef):
            break
        if isinstance(each, cst.FunctionDef):
            found = each
    return found


def _in_lambda_layer(script: Script, node: cst.CSTNode) -> bool:
    """Whether a function is given to a `Lambda` layer."""
    function = script.within(node, (cst.FunctionDef, cst.Lambda))
    if isinstance(function, cst.Lambda):
        call = script.within(function, cst.Call)
        return (
            isinstance(call, cst.Call)
            and script.names.quiet(call.func) == "keras.layers.Lambda"
        )
    if not isinstance(function, cst.FunctionDef):
        return False
    return function.name.value in script.lambdas


def _is_borrowing(script: Script, node: cst.CSTNode) -> bool:
    """Whether it is in a function that a method of a layer calls."""
    return script.within(node, cst.FunctionDef) in script.borrowing
