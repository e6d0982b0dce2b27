"""Methods that changed, of whatever object: `model.fit_generator`."""

import re

from keras_jax_ext.port.resolve import dotted, made_by
from keras_jax_ext.port.rules import given, places, variables
from keras_jax_ext.port.rules.kinds import base_kind, may_be_model
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.arguments import COUNTED, METHOD_NAMES, METHODS

import libcst as cst

_CLASSES = (
    "(lambda p: p.argmax(axis=-1) if p.shape[-1] > 1 "
    'else (p > 0.5).astype("int32"))({call})'
)
# Methods of tensors that arrays of JAX do not have, and what to do.
_LEFT = {
    "eval": "take `kje.keras2.to_numpy` of it",
    "scatter_nd_update": "use `keras.ops.scatter_update`",
    "scatter_update": "use `keras.ops.scatter_update`",
    "get_concrete_function": "use `jax.jit`",
    "as_graph_def": "leave it out",
    "to_tensor": "pad the rows",
    "to_yaml": "use `to_json`",
    "get_output_at": "use `output`",
    "get_input_at": "use `input`",
    "get_output_shape_at": "use `output.shape`",
    "add_update": "assign the variable in `call`",
    "get_updates_for": "leave it out",
}


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call
) -> cst.BaseExpression:
    """A call of a method with its name and arguments of now."""
    func = updated.func
    assert isinstance(func, cst.Attribute)
    method = func.attr.value
    handler = _HANDLERS.get(method)
    if handler is not None:
        return handler(script, node, updated)
    if method in _LEFT and script.of_tensorflow:
        script.todo(node, f"arrays of JAX have no `{method}`", _LEFT[method])
        return updated
    updated = places.of_method(script, node, updated)
    updated = given.rewrite(script, node, updated, method)
    if method in METHODS or method in METHOD_NAMES:
        return _renamed(script, node, updated, method)
    return updated


# Scalars are numbers, and tensors within `value_and_grad` are read, too.
TO_NUMPY = "keras_jax_ext.keras2.to_numpy"
_STEPS = ("steps_per_epoch", "validation_steps", "steps")


def _renamed(script, node, updated, method):
    table = METHODS.get(method, {})
    args = []
    for arg in updated.args:
        key = arg.keyword.value if arg.keyword else None
        if key in _STEPS and "/" in script.code(arg.value).replace("//", ""):
            value = cst.parse_expression(f"int({script.code(arg.value)})")
            script.done(node, f"`{key}=` is an integer")
            arg = arg.with_changes(value=value)
        if key in COUNTED:
            script.todo(node, f"`{key}=` counts rows", "give steps_per_epoch=")
        if key == "reset_metrics" and script.code(arg.value) != "True":
            script.todo(
                node,
                "metrics are those of each batch: they are not added up",
                "keep the results of each batch, and average them",
            )
            args.append(arg)
        elif key == "generator" and method not in METHOD_NAMES:
            args.append(arg)
        elif key in table and (now := table[key]):
            script.done(node, f"`{key}=` is `{now}=`")
            args.append(arg.with_changes(keyword=cst.Name(now)))
        elif key in table:
            script.done(node, f"`{key}=` is left out: it is of the data now")
        else:
            args.append(arg)
    if method.endswith("_generator"):
        args = _by_name(args, method)
    name = METHOD_NAMES.get(method, method)
    if name == "add_weight":
        return _add_weight(script, node, updated.with_changes(args=args))
    if name != method:
        script.done(node, f"`{name}`")
    if args == list(updated.args) and name == method:
        return updated
    func = updated.func.with_changes(attr=cst.Name(name))
    return updated.with_changes(func=func, args=tidy(args))


# The order of the arguments of `fit_generator` and its like.
_ORDERS = {
    "fit_generator": "x steps_per_epoch epochs verbose callbacks "
    "validation_data validation_steps",
    "evaluate_generator": "x steps",
    "predict_generator": "x steps",
}


def _by_name(args, method):
    order = _ORDERS[method].split()
    return [
        keyword(order[i], a.value, a)
        if i > 0 and a.keyword is None and i < len(order)
        else a
        for i, a in enumerate(args)
    ]


def _add_weight(script, node, updated):
    """The name is no longer the first argument."""
    order = ("name", "shape", "dtype", "initializer", "regularizer")
    args = [
        keyword(order[i], a.value, a)
        if a.keyword is None and i < len(order)
        else a
        for i, a in enumerate(updated.args)
    ]
    first = updated.args[0] if updated.args else None
    if first is not None and isinstance(first.value, (cst.Tuple, cst.List)):
        args = list(updated.args)  # Keras 3's own order: the shape first
    name = cst.Name("add_weight")
    if args != list(updated.args) or updated.func.attr.value != "add_weight":
        script.done(node, "`add_weight(name=...)`")
    func = updated.func.with_changes(attr=name)
    return updated.with_changes(func=func, args=tidy(args))


def _numpy(script, node, updated):
    if updated.args or not script.of_tensorflow:
        return updated
    inner = updated.func.value
    target = script.target(TO_NUMPY)
    script.done(node, f"`{target}`")
    return cst.Call(cst.parse_expression(target), [cst.Arg(inner)])


def _call_of(script, updated, name):
    """`helper(object, ...)` for `object.method(...)`."""
    target = cst.parse_expression(script.target(name))
    args = [cst.Arg(updated.func.value), *updated.args]
    return cst.Call(target, tidy(args))


def _reset_states(script, node, updated):
    if updated.args:
        script.todo(node, "states of one's own", "assign to `layer.states`")
        return updated
    script.done(node, "`kje.keras2.reset_states`")
    return _call_of(script, updated, "keras_jax_ext.keras2.reset_states")


def _predict_classes(script, node, updated):
    updated = given.rewrite(script, node, updated, "predict")
    call = updated.with_changes(
        func=updated.func.with_changes(attr=cst.Name("predict"))
    )
    script.done(node, "`predict`, and the largest of each row")
    return cst.parse_expression(_CLASSES.format(call=script.code(call)))


def _shape(script, node, updated):
    if updated.args or not script.of_tensorflow:
        return updated
    script.done(node, "`.shape`")
    return updated.func.with_changes(attr=cst.Name("shape"))


def _as_list(script, node, updated):
    inner = updated.func.value
    if updated.args or not script.of_tensorflow:
        return updated
    if not script.code(inner).endswith("shape"):
        return updated
    script.done(node, "`list` of the shape")
    return cst.Call(cst.Name("list"), [cst.Arg(inner)])


def _add_metric(script, node, updated):
    """Models of ours have it; stock layers do not."""
    owner = script.within(node, cst.ClassDef)
    inside = script.code(node.func.value) == "self"
    if inside and owner is not None and base_kind(script, owner) == "model":
        args = [
            a
            for a in updated.args
            if not (a.keyword and a.keyword.value == "aggregation")
        ]
        return updated.with_changes(args=tidy(args))
    script.todo(
        node,
        "only models and layers of `kje` have `add_metric`",
        "derive the layer from `kje.Layer`",
    )
    return updated


def _minimize(script, node, updated):
    """`optimizer.minimize(loss, variables)` of a function `loss`."""
    args = updated.args
    names = [a.keyword.value if a.keyword else "" for a in args]
    if len(args) != 2 or names not in (
        ["", ""],
        ["", "var_list"],
        ["loss", "var_list"],
    ):
        script.todo(node, "this `minimize`", "use `kje.value_and_grad`")
        return updated
    helper = script.target("keras_jax_ext.value_and_grad")
    loss, variables = (script.code(a.value) for a in args)
    now = variables
    if isinstance(node.args[1].value, cst.Lambda):
        now = f"({variables})()"  # when the loss has built the model
    text = (
        f"{script.code(updated.func.value)}.apply_gradients("
        f"zip({helper}({loss}, {variables})()[1], {now}))"
    )
    script.done(node, "`kje.value_and_grad`, and `apply_gradients`")
    return cst.parse_expression(text)


def _add_loss(script, node, updated):
    """Of a layer, without `inputs=`; of a functional model, a new model."""
    owner = node.func.value
    args = [
        a
        for a in updated.args
        if not (a.keyword and a.keyword.value == "inputs")
    ]
    if args and _is_function(script, node, args[0].value):
        return _add_computed(script, node, updated, args[:1])
    inside = script.code(owner).split(".")[0] in ("self", "super()")
    if inside or not isinstance(owner, cst.Name):
        if len(args) != len(updated.args):
            script.done(node, "`inputs=` is left out")
        return updated.with_changes(args=tidy(args))
    statement = script.names.parents.get(node)
    if (
        not isinstance(statement, cst.Expr)
        or len(args) != 1
        or isinstance(args[0].value, cst.Lambda)
        or not may_be_model(script, owner)
    ):
        script.todo(node, "this `add_loss`", "use `kje.keras2.with_loss`")
        return updated
    helper = script.target("keras_jax_ext.keras2.with_loss")
    script.done(node, "`kje.keras2.with_loss`")
    script.rebound[node] = owner.value
    return cst.parse_expression(
        f"{helper}({owner.value}, {script.code(args[0].value)})"
    )


def _is_function(script, node, value) -> bool:
    """Whether a loss is added that is computed each step."""
    if isinstance(value, (cst.List, cst.Tuple)):
        return any(_is_function(script, node, e.value) for e in value.elements)
    if isinstance(value, cst.Call):
        return dotted(value.func) in ("partial", "functools.partial")
    if isinstance(value, cst.Name):
        made = map(made_by, script.names.assignments(value))
        values = map(script.names.value, script.names.assignments(value))
        return any(isinstance(m, cst.FunctionDef) for m in made) or any(
            isinstance(v, cst.Lambda) for v in values
        )
    if isinstance(value, cst.Attribute) and script.code(value.value) == "self":
        owner = script.within(node, cst.ClassDef)
        return isinstance(owner, cst.ClassDef) and any(
            isinstance(each, cst.FunctionDef)
            and each.name.value == value.attr.value
            for each in owner.body.body
        )
    return isinstance(value, cst.Lambda)


def _add_computed(script, node, updated, args):
    """`add_loss(lambda: ...)`; within `call`, what the function returns."""
    function = script.within(node, cst.FunctionDef)
    in_call = function is not None and function.name.value == "call"
    if in_call and not isinstance(args[0].value, (cst.List, cst.Tuple)):
        script.done(node, "`add_loss` of its value")
        value = cst.parse_expression(f"({script.code(args[0].value)})()")
        return updated.with_changes(args=[cst.Arg(value)])
    script.done(node, "`kje.keras2.add_loss`")
    updated = updated.with_changes(args=args)
    return _call_of(script, updated, "keras_jax_ext.keras2.add_loss")


def _next(script, node, updated):
    """`generator.next()`, unless the script has such a method."""
    if updated.args or "def next(" in script.text:
        return updated
    script.done(node, "`next`")
    return cst.Call(cst.Name("next"), [cst.Arg(updated.func.value)])


def _init(script, node, updated):
    """`super().__init__(self)`, which Keras 2 passed over."""
    first = node.args[0].value if node.args else None
    begins = script.code(node.func.value).startswith("super(")
    if not (begins and isinstance(first, cst.Name) and first.value == "self"):
        return updated
    script.done(node, "`self` is given already")
    return updated.with_changes(args=updated.args[1:])


def _initial_state(script, node, updated):
    """Of a recurrent layer: it takes the size of a batch now."""
    if re.search(r"def get_initial_state\b", script.text):
        return updated
    names = [a.keyword.value if a.keyword else "inputs" for a in updated.args]
    given = dict(zip(names, updated.args, strict=True))
    if "batch_size" in given:
        size = given["batch_size"].value
    elif "inputs" in given:
        tensor = given["inputs"].value
        size = cst.parse_expression(f"{script.code(tensor)}.shape[0]")
    else:
        return updated
    script.done(node, "of the size of a batch")
    return updated.with_changes(args=[keyword("batch_size", size)])


_HANDLERS = {
    "__init__": _init,
    "get_initial_state": _initial_state,
    "next": _next,
    "add_loss": _add_loss,
    "add_metric": _add_metric,
    "numpy": _numpy,
    "reset_states": _reset_states,
    "predict_classes": _predict_classes,
    "get_shape": _shape,
    "as_list": _as_list,
    "add_weight": _add_weight,
    "minimize": _minimize,
    "read_value": variables.read,
    "value": variables.read,
}
