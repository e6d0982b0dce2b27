"""Arguments of constructors and functions of Keras."""

from collections.abc import Iterable

from keras_jax_ext.port import exports
from keras_jax_ext.port.resolve import made_by
from keras_jax_ext.port.rules import (
    defaults,
    inputs,
    keras1,
    names,
    places,
    schedules,
    spelled,
)
from keras_jax_ext.port.rules.lookup import find
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.arguments import (
    CLOSED,
    NOTES,
    OF_LAYERS,
    RENAMED,
)

import libcst as cst

# Learning rates of Keras 2, where a script names a decay alone.
_RATES = {"SGD": "0.01", "Adam": "0.001", "RMSprop": "0.001", "Nadam": "0.001"}
_RATE_CALLBACKS = ("LearningRateScheduler", "ReduceLROnPlateau")


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression:
    """A call of Keras with its arguments of now."""
    found = find(name)
    if found.name is None:
        return updated
    args = places.kept(script, node, list(updated.args), found.name)
    args = inputs.shaped(script, node, args, found.name)
    args = keras1.named(script, node, args, found.name)
    args = _renamed(script, node, args, name, found.name)
    if _is_optimizer(found.name):
        args = _no_epsilon(script, node, args)
        args = _decay(script, node, args, found.name)
    if found.name.startswith("keras.layers."):
        args = _layer(script, node, args, found.name)
        args = spelled.out(script, node, args, found.name)
    if not _known(script, node, args, found.name):
        return updated
    args = defaults.written(script, node, args, found.name)
    if found.name == "keras.layers.Lambda" and _draws(script, node):
        script.done(node, "`kje.keras2.Lambda`: it draws random numbers")
        target = script.target("keras_jax_ext.keras2.Lambda")
        updated = updated.with_changes(func=cst.parse_expression(target))
    if found.name == schedules.CALLBACK:
        updated = schedules.rewrite(script, node, updated)
    return updated.with_changes(args=tidy(args))


def _draws(script: Script, node: cst.Call) -> bool:
    """Whether the function of a Lambda layer draws random numbers."""
    first = node.args[0].value if node.args else None
    text = script.code(first) if isinstance(first, cst.Lambda) else ""
    if isinstance(first, cst.Name):
        for each in script.names.assignments(first):
            made = made_by(each)
            text += (
                script.code(made) if isinstance(made, cst.FunctionDef) else ""
            )
    return "random" in text or "truncated_normal" in text


def value_of(args: list[cst.Arg], name: str) -> cst.BaseExpression | None:
    """The value of an argument by its name."""
    for arg in args:
        if arg.keyword is not None and arg.keyword.value == name:
            return arg.value
    return None


def without(args: list[cst.Arg], *names: str) -> list[cst.Arg]:
    """The arguments but those of some names."""
    return [a for a in args if not (a.keyword and a.keyword.value in names)]


def _is_optimizer(name: str) -> bool:
    return name.startswith("keras.optimizers.") and name.count(".") == 2


def _renamed(script, node, args, old, new):
    table: dict[str, str | None] = {}
    for name, renames in RENAMED.items():
        if (
            old == name
            or new == name
            or (name == "keras.optimizers" and _is_optimizer(new))
        ):
            table |= renames
    kept = []
    for arg in args:
        key = arg.keyword.value if arg.keyword else None
        if key not in table:
            kept.append(arg)
            continue
        now = table[key]
        note = NOTES.get((new, key))
        if note:
            script.differs(node, note)
        elif now:
            script.done(node, f"`{key}=` is `{now}=`")
        else:
            script.done(node, f"`{key}=` is left out: it changed nothing")
        if now:
            kept.append(arg.with_changes(keyword=cst.Name(now)))
    return kept


def _no_epsilon(script, node, args):
    """`epsilon=None` stood for the default."""
    epsilon = value_of(args, "epsilon")
    if not (isinstance(epsilon, cst.Name) and epsilon.value == "None"):
        return args
    script.done(node, "`epsilon=None` is left out")
    return without(args, "epsilon")


def _decay(script, node, args, name):
    decay = value_of(args, "decay")
    if decay is None:
        return args
    args = without(args, "decay")
    text = script.code(decay)
    if text in ("0", "0.", "0.0"):
        script.done(node, "`decay=0` is left out")
        return args
    if any(each in script.text for each in _RATE_CALLBACKS):
        script.differs(
            node,
            "`decay=` is left out: a schedule cannot be set by callbacks",
        )
        return args
    rate = value_of(args, "learning_rate")
    place = args[0] if args and args[0].keyword is None else None
    usual = _RATES.get(name.rpartition(".")[2])
    first = rate or (place.value if place else None)
    if first is None and usual is None:
        script.todo(node, "`decay=` without a rate", "give learning_rate=")
        return args
    schedule = script.target("keras.optimizers.schedules.InverseTimeDecay")
    value = cst.parse_expression(
        f"{schedule}({script.code(first) if first else usual}, 1, {text})"
    )
    script.done(node, "`decay=` is a schedule: `InverseTimeDecay`")
    if place is not None:
        return [place.with_changes(value=value), *args[1:]]
    if rate is None:
        return [*args, keyword("learning_rate", value)]
    return [
        a.with_changes(value=value)
        if a.keyword and a.keyword.value == "learning_rate"
        else a
        for a in args
    ]


def _layer(script, node, args, name):
    args = inputs.of_steps(script, node, args, name)
    args = _input_length(script, node, args, name)
    args = _batch_shape(script, node, args)
    args = _weights(script, node, args, name)
    if name == "keras.layers.Dense":
        args = _units(script, node, args)
    return args


def _input_length(script, node, args, name):
    length = value_of(args, "input_length")
    if length is None or name != "keras.layers.Embedding":
        return args
    if script.within(node, cst.ClassDef) or script.code(length) == "None":
        script.done(node, "`input_length=` is left out")
        return without(args, "input_length")
    script.done(node, "`input_length=` is `input_shape=`")
    value = cst.parse_expression(f"({script.code(length)},)")
    return [
        keyword("input_shape", value, a)
        if a.keyword and a.keyword.value == "input_length"
        else a
        for a in args
    ]


def _batch_shape(script, node, args):
    """A fixed batch size is said by an `Input` before the layer."""
    whole = value_of(args, "batch_input_shape")
    size, shape = value_of(args, "batch_size"), value_of(args, "input_shape")
    if whole is not None:
        text = f"batch_shape={script.code(whole)}"
        gone: tuple[str, ...] = ("batch_input_shape",)
    elif size is not None and shape is not None:
        text = f"{script.code(shape)}, batch_size={script.code(size)}"
        gone = ("batch_size", "input_shape")
    else:
        return args
    if not place_for_input(script, node):
        script.todo(
            node,
            f"`{gone[0]}=` of a layer that is not put into a Sequential here",
            f"put `keras.Input({text})` before it",
        )
        return args
    later = inputs.is_later(script, node)
    if later:
        script.done(node, f"`{gone[0]}=` is left out: it follows a layer")
        return without(args, *gone)
    if later is None:
        script.todo(
            node,
            f"`{gone[0]}=` of a layer that a loop adds",
            f"put `keras.Input({text})` before the loop",
        )
        return without(args, *gone)
    script.inputs[node] = f"{script.target('keras.Input')}({text})"
    script.done(node, f"`keras.Input({text})` comes before it")
    return without(args, *gone)


def place_for_input(script: Script, node: cst.CSTNode) -> bool:
    """Whether a layer is in a list, or the argument of `model.add`."""
    parent = script.names.parents[node]
    if isinstance(parent, cst.Element):
        return isinstance(script.names.parents[parent], cst.List)
    if isinstance(parent, cst.Arg):
        call = script.names.parents[parent]
        return (
            isinstance(call, cst.Call)
            and isinstance(call.func, cst.Attribute)
            and call.func.attr.value == "add"
        )
    return False


def _weights(script, node, args, name):
    weights = value_of(args, "weights")
    known = exports.signature(name)
    if weights is None or known is None or "weights" in known.names:
        return args
    short = name.rpartition(".")[2]
    if not (short == "Dense" or short.startswith("Conv")):
        script.todo(node, "`weights=` is gone", "use `set_weights`, once built")
        return args
    if isinstance(weights, cst.List):
        values = [script.code(e.value) for e in weights.elements]
    else:
        values = [f"{script.code(weights)}[{i}]" for i in (0, 1)]
    args = without(args, "weights", "kernel_initializer", "bias_initializer")
    script.done(node, "`weights=` are initializers")
    both = ("kernel_initializer", "bias_initializer")
    return args + [
        keyword(key, cst.parse_expression(value))
        for key, value in zip(both, values, strict=False)
    ]


def _units(script, node, args):
    """`units` is an int of Python's, not of NumPy's."""
    place = next(
        (
            i
            for i, a in enumerate(args)
            if (a.keyword is None and i == 0)
            or (a.keyword and a.keyword.value == "units")
        ),
        None,
    )
    if place is None:
        return args
    original = node.args[place].value if place < len(node.args) else None
    if original is None or not _of_numpy(script, original):
        return args
    script.done(node, "`units` is an int of Python's")
    value = cst.parse_expression(f"int({script.code(args[place].value)})")
    return [
        a.with_changes(value=value) if i == place else a
        for i, a in enumerate(args)
    ]


def _of_numpy(script: Script, node: cst.BaseExpression) -> bool:
    """Whether a value may be a number of NumPy's."""
    if isinstance(node, cst.Name):
        values = [script.names.value(a) for a in script.names.assignments(node)]
        return any(
            v is not None
            and not isinstance(v, cst.Name)
            and _of_numpy(script, v)
            for v in values
        )
    text = script.code(node)
    return any(
        each in text
        for each in ("np.", "numpy.", ".max(", ".min(", ".sum(", ".prod(")
    )


def _known(script, node, args, name) -> bool:
    """Whether the installed Keras takes every argument."""
    found = unknown(name, args)
    if found:
        names.keep(script, node.func)
        script.todo(
            node,
            f"`{name}` has no argument `{found[0]}=`",
            "leave it out, or write what it did",
        )
    return not found and not _too_many(script, node, args, name)


def _too_many(script, node, args, name) -> bool:
    """Whether it has more arguments by position than are taken now."""
    known = exports.signature(name.replace("keras_jax_ext.", "keras."))
    by_place = [a for a in args if a.keyword is None and not a.star]
    if known is None or known.places is None or len(by_place) <= known.places:
        return False
    names.keep(script, node.func)
    script.todo(
        node,
        f"`{name}` takes {known.places} arguments by position",
        "give the others by name, or leave them out",
    )
    return True


def unknown(name: str, args: Iterable[cst.Arg]) -> list[str]:
    """The arguments that the installed Keras does not take."""
    # Ours take what Keras's do.
    known = exports.signature(name.replace("keras_jax_ext.", "keras."))
    if known is None:
        return []
    of_layers = name.startswith("keras.layers.")
    keys = [a.keyword.value for a in args if a.keyword is not None]
    if known.open and of_layers:
        keys = [key for key in keys if key not in OF_LAYERS]
    elif known.open and not _is_optimizer(name) and name not in CLOSED:
        return []
    return [key for key in keys if key not in known.names]
