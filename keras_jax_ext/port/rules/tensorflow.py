"""Calls of TensorFlow that need more than a row of the table."""

from typing import Any

from keras_jax_ext.port.rules import (
    constants,
    further,
    keras1,
    names,
    operations,
    phase,
    reductions,
    traced,
    variables,
)
from keras_jax_ext.port.rules.arguments import value_of, without
from keras_jax_ext.port.rules.further import refused
from keras_jax_ext.port.rules.operations import keyword, tidy
from keras_jax_ext.port.script import Script

import libcst as cst

TAPE = "tensorflow.GradientTape"
FUNCTIONS = (
    "tensorflow.function",
    "tensorflow.autograph.experimental.do_not_convert",
    "tensorflow.contrib.eager.defun",
)
DATASET = "tensorflow.data.Dataset"
# What begins a dataset, and what goes on with it, and cannot.
BEGINNINGS = [
    "from_tensor_slices",
    "from_tensors",
    "from_generator",
    "range",
    "zip",
]
NOT_OF_DATASETS = [
    "parallel_interleave",
    "snapshot",
    "rebatch",
    "ignore_errors",
    "options",
    "group_by_window",
    "bucket_by_sequence_length",
    "sample_from_datasets",
    "rejection_resample",
    "ragged_batch",
    "sparse_batch",
    "scan",
]


def rewrite(
    script: Script, node: cst.Call, updated: cst.Call, name: str
) -> cst.BaseExpression | None:
    """The call as it is now; `None` if it has no rule here."""
    handler = HANDLERS.get(name)
    if handler is None:
        return None
    return handler(script, node, updated, name)


def is_dataset(name: str) -> bool:
    """Whether a name begins a dataset in a way that is known."""
    head, _, method = name.rpartition(".")
    return head == DATASET and method in BEGINNINGS


def _variable(script: Any, node: Any, updated: Any, name: str) -> Any:
    order = ("initial_value", "trainable", "validate_shape", "caching_device")
    args = [
        keyword(order[i], a.value, a)
        if 0 < i < len(order) and a.keyword is None
        else a
        for i, a in enumerate(updated.args)
    ]
    first: Any = value_of(args, "initial_value")
    first = first or (args and args[0].value)
    args = without(args, "validate_shape", "caching_device", "synchronization")
    args = without(args, "aggregation")
    bad = [
        a.keyword.value
        for a in args
        if a.keyword
        and a.keyword.value
        not in ("initial_value", "trainable", "name", "dtype")
    ]
    if bad or not args:
        return refused(script, node, updated, f"`{bad}` of tf.Variable")
    if isinstance(first, cst.Lambda):
        return refused(script, node, updated, "a function as initial value")
    args = [
        a.with_changes(keyword=cst.Name("initializer"))
        if a.keyword and a.keyword.value == "initial_value"
        else a
        for a in args
    ]
    label = value_of(args, "name")
    if isinstance(label, cst.SimpleString) and "/" in label.value:
        args = [
            a.with_changes(
                value=cst.SimpleString(label.value.replace("/", "_"))
            )
            if a.keyword and a.keyword.value == "name"
            else a
            for a in args
        ]
    script.done(node, "`keras.Variable`")
    func = names.written(script, node.func, "keras.Variable")
    if value_of(args, "dtype") is None and not _is_float(first):
        # A variable of numbers takes their type from an array.
        tensor = script.target("keras.ops.convert_to_tensor")
        wrapped = cst.Call(cst.parse_expression(tensor), [cst.Arg(first)])
        args = [
            a.with_changes(value=wrapped) if a.value is first else a
            for a in args
        ]
    return updated.with_changes(func=func, args=tidy(args))


def _is_float(node) -> bool:
    """Whether a value is surely a float, or an array with a type."""
    if isinstance(node, cst.UnaryOperation):
        node = node.expression
    return isinstance(node, (cst.Float, cst.Call))


def _function(script, node, updated, name):
    """`tf.function(f)` is `f`."""
    if len(updated.args) >= 1 and updated.args[0].keyword is None:
        said(script, node)
        return updated.args[0].value
    return refused(script, node, updated, "this tf.function")


def said(script: Script, node: cst.CSTNode) -> None:
    """Say what it means that a function is not compiled."""
    script.differs(
        node, "tf.function is left out: it runs step by step, uncompiled"
    )


def _print(script, node, updated, name):
    # TensorFlow prints the value of a variable, and not what it is called.
    args = [
        variables.valued(script, old, new)
        for old, new in zip(node.args, updated.args, strict=True)
    ]
    args = without(args, "output_stream", "summarize")
    plain = [a for a in args if a.keyword is None]
    if any(a.star for a in args) or not _is_traced(script, node):
        script.done(node, "`print`")
        return updated.with_changes(func=cst.Name("print"), args=tidy(args))
    pieces, values = [], []
    for arg in plain:
        # JAX fills in nothing where a format begins with a doubled brace.
        if isinstance(arg.value, cst.SimpleString) and not (
            {*"{}"} & {*arg.value.raw_value}
        ):
            text = arg.value.raw_value
            pieces.append(
                text.replace('"', '\\"') if arg.value.quote == "'" else text
            )
        else:
            pieces.append("{}")
            values.append(arg.with_changes(comma=cst.MaybeSentinel.DEFAULT))
    template = cst.parse_expression('"' + " ".join(pieces) + '"')
    script.done(node, "`jax.debug.print`")
    func = cst.parse_expression(script.target("jax.debug.print"))
    return cst.Call(func, tidy([cst.Arg(template), *values]))


def _is_traced(script: Script, node: cst.CSTNode) -> bool:
    """Whether a node is in code that JAX traces."""
    for each in script.names.up(node):
        if isinstance(each, cst.With) and any(
            isinstance(i.item, cst.Call)
            and script.names.quiet(i.item.func) == TAPE
            for i in each.items
        ):
            return True
        if isinstance(each, cst.FunctionDef) and each.name.value in (
            "call",
            "train_step",
            "test_step",
        ):
            return True
        if each in script.traced:
            return True
    return False


def _where(script, node, updated, name):
    if len(updated.args) < 3:
        script.done(node, "`jax.numpy.argwhere`")
        func = names.written(script, node.func, "jax.numpy.argwhere")
        return updated.with_changes(func=func)
    return operations.rewrite(script, node, updated, name)


def _boolean_mask(script, node, updated, name):
    outer = script.names.parents.get(script.names.parents.get(node))
    if traced.is_masked(script, outer):
        return updated  # it is rewritten with that
    return operations.rewrite(script, node, updated, name)


def _reduced(script, node, updated, name):
    """Of entries that a mask takes: their number depends on values."""
    if not traced.is_masked(script, node):
        return operations.rewrite(script, node, updated, name)
    helper = f"keras_jax_ext.keras2.{traced.MASKED[name]}"
    script.done(node, f"`{helper}`")
    inner = cst.ensure_type(updated.args[0].value, cst.Call)
    func = names.written(script, node.func, helper)
    return updated.with_changes(func=func, args=inner.args)


def _matmul(script, node, updated, name):
    """`transpose_a=True` exchanges axes."""
    swap = script.target("keras.ops.swapaxes")
    args = list(updated.args)
    for place, key in enumerate(("transpose_a", "transpose_b")):
        value = value_of(args, key)
        if value is None:
            continue
        args = without(args, key)
        if script.code(value) == "False":
            continue
        if script.code(value) != "True" or len(args) < 2:
            return refused(script, node, updated, f"this `{key}=`")
        inner = script.code(args[place].value)
        swapped = cst.parse_expression(f"{swap}({inner}, -1, -2)")
        args[place] = args[place].with_changes(value=swapped)
    return operations.rewrite(
        script, node, updated.with_changes(args=tidy(args)), name
    )


def _uniform(script, node, updated, name):
    dtype = value_of(updated.args, "dtype")
    text = script.code(dtype) if dtype is not None else ""
    if "int" not in text:
        return operations.rewrite(script, node, updated, name)
    script.done(node, "`keras.random.randint`")
    func = names.written(script, node.func, "keras.random.randint")
    args = without(list(updated.args), "name")
    by_place = [a for a in args if a.keyword is None]
    if len(by_place) < 2 and value_of(args, "minval") is None:
        args.insert(1, keyword("minval", cst.Integer("0")))
    return updated.with_changes(func=func, args=tidy(args))


_GPUS = "keras.backend._get_available_gpus"


def _devices(script, node, updated, name):
    kind = script.code(updated.args[0].value) if updated.args else '""'
    kind = "GPU" if name == _GPUS else kind
    jax = script.module_name("jax")
    script.done(node, "the devices of JAX")
    if "GPU" in kind.upper():
        return cst.parse_expression(
            f'[d for d in {jax}.devices() if d.platform == "gpu"]'
        )
    return cst.parse_expression(f"{jax}.devices()")


def _device(script, node, updated, name):
    script.differs(node, "a device is not chosen: JAX places arrays")
    func = script.target("contextlib.nullcontext")
    return cst.parse_expression(f"{func}()")


def _has_gpu(script, node, updated, name):
    script.done(node, "the platform of JAX")
    backend = script.target("jax.default_backend")
    return cst.parse_expression(f'{backend}() == "gpu"')


def _shape(script, node, updated, name):
    script.done(node, "a tuple")
    return updated.with_changes(func=cst.Name("tuple"))


def _eagerly(script, node, updated, name):
    script.done(node, "`True`: JAX runs at once")
    return cst.Name("True")


def _logger(script, node, updated, name):
    script.done(node, "the logger of that name")
    get = script.target("logging.getLogger")
    return cst.parse_expression(f'{get}("tensorflow")')


def _cardinality(script, node, updated, name):
    if len(updated.args) != 1:
        return refused(script, node, updated, "this `cardinality`")
    script.done(node, "`cardinality()` of the dataset")
    data = updated.args[0].value
    return cst.Call(cst.Attribute(data, cst.Name("cardinality")))


HANDLERS = {
    "tensorflow.Variable": _variable,
    "keras.backend.variable": _variable,
    "tensorflow.function": _function,
    "tensorflow.print": _print,
    "tensorflow.where": _where,
    "tensorflow.matmul": _matmul,
    "tensorflow.linalg.matmul": _matmul,
    "tensorflow.random.uniform": _uniform,
    "tensorflow.constant": constants.constant,
    "tensorflow.logical_and": constants.both,
    "tensorflow.math.logical_and": constants.both,
    "tensorflow.convert_to_tensor": constants.constant,
    "tensorflow.config.list_physical_devices": _devices,
    "tensorflow.config.experimental.list_physical_devices": _devices,
    "tensorflow.config.list_logical_devices": _devices,
    "tensorflow.config.experimental.list_logical_devices": _devices,
    _GPUS: _devices,
    "tensorflow.test.is_gpu_available": _has_gpu,
    "tensorflow.device": _device,
    "tensorflow.executing_eagerly": _eagerly,
    "tensorflow.TensorShape": _shape,
    "tensorflow.get_logger": _logger,
    "tensorflow.data.experimental.cardinality": _cardinality,
    "keras.metrics.binary_accuracy": reductions.binary_accuracy,
    **dict.fromkeys(reductions.ERRORS, reductions.error),
    "tensorflow.norm": reductions.norm,
    "tensorflow.linalg.norm": reductions.norm,
    "keras.backend.learning_phase": phase.asked,
    "keras.backend.in_train_phase": phase.chosen,
    "keras.backend.in_test_phase": phase.chosen,
    "keras.layers.Merge": keras1.merged,
    "keras.layers.core.Merge": keras1.merged,
    "keras.layers.merge": keras1.merged,
    "keras.layers.merge.merge": keras1.merged,
    "keras.engine.merge": keras1.merged,
    "keras.engine.topology.merge": keras1.merged,
    "tensorflow.data.experimental.shuffle_and_repeat": (
        further.shuffle_and_repeat
    ),
    "keras.backend.set_floatx": further.floatx,
    "tensorflow.image.resize": further.resize,
    "keras.utils.to_categorical": further.categorical,
    "keras.utils.np_utils.to_categorical": further.categorical,
    "keras.backend.set_value": further.set_value,
    "tensorflow.boolean_mask": _boolean_mask,
    **dict.fromkeys(traced.MASKED, _reduced),
}
