"""The table of operations: each example computes what TensorFlow does."""

import functools
import json
from pathlib import Path

from keras_jax_ext.port import exports
from keras_jax_ext.port.tables import names as tables
from keras_jax_ext.port.tables.operations import OPERATIONS

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.convert import port

from recording import examples, plain

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
EXAMPLES = [e for row in OPERATIONS.values() for e in row.examples]


@functools.cache
def scope_of_all():
    """The functions that a script with every example has, once ported."""
    lines = [f"def f{i}(): return {e}\n" for i, e in enumerate(EXAMPLES)]
    imports = (
        "import tensorflow as tf\nfrom tensorflow.keras import backend as K\n"
    )
    ported = port(imports + "".join(lines))
    assert ported.left == []
    scope = {n: jnp.asarray(a) for n, a in examples().items()}
    exec(ported.text, scope)
    return scope


def computed(example):
    """What the ported example computes."""
    return scope_of_all()[f"f{EXAMPLES.index(example)}"]()


def check(found, recorded):
    if isinstance(recorded, list):
        assert len(found) == len(recorded)
        for ours, theirs in zip(found, recorded, strict=True):
            check(ours, theirs)
        return
    assert found["shape"] == recorded["shape"]
    assert found["kind"] == recorded["kind"]
    if found["kind"] == "U":
        assert found["values"] == recorded["values"]
        return
    np.testing.assert_allclose(
        found["values"], recorded["values"], rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_computes_what_was_recorded(example):
    check(plain(computed(example)), RECORDED[example])


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_computes_what_tensorflow_does(example):
    tf = pytest.importorskip("tensorflow")
    backend = pytest.importorskip("tf_keras").backend
    scope = {"tf": tf, "K": backend}
    scope |= {n: tf.constant(a) for n, a in examples().items()}
    check(plain(computed(example)), plain(eval(example, scope)))


def test_nothing_is_recorded_that_is_no_example():
    assert set(RECORDED) == set(EXAMPLES)


def test_every_row_of_tensorflow_has_an_example_or_cannot():
    # Random numbers, files and clocks differ in each run.
    free = ("random.", "gfile.", "timestamp", "nn.dropout", "backend.dropout")
    free += ("linalg.qr", "print_", "update", "batch_get_value", "TensorSpec")
    free += ("random_", "truncated_normal", "set_", "clear_", "is_keras")
    # Of a model, and of Keras 1: see test_keras2.py.
    free += ("backend.function", "image_dim_ordering")
    free += ("read_file", "decode_")  # see test_keras2_decoding.py
    free += ("backend.function",)  # of a model: see test_keras2.py
    bare = [row.name for row in OPERATIONS.values() if not row.examples]
    assert [n for n in bare if not any(f in n for f in free)] == []


def target_exists(name):
    root = name.split(".")[0]
    if root == "keras":
        return exports.exists(name)
    scope = {}
    module, _, member = name.rpartition(".")
    exec(f"import {module} as module", scope)
    return hasattr(scope["module"], member)


@pytest.mark.parametrize(
    "name",
    sorted({r.target for r in OPERATIONS.values()} | {*tables.MOVED.values()}),
)
def test_what_a_name_became_is_there(name):
    assert target_exists(name)
