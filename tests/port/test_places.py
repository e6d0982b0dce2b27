"""The table of places: each argument keeps its name."""

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port import exports
from keras_jax_ext.port.rules import places
from keras_jax_ext.port.script import Script
from keras_jax_ext.port.tables.places import PLACES


@pytest.mark.parametrize("name", [*PLACES])
def test_each_argument_has_its_name_or_its_old_place(name):
    known = exports.signature(name)
    assert known is not None, "the name is not public"
    order = PLACES[name].split()
    script = Script(f"{name}({', '.join(order)})")
    call = script.module.body[0].body[0].value
    args = places.kept(script, call, list(call.args), name)
    for place, (key, arg) in enumerate(zip(order, args, strict=True)):
        assert arg.value.value == key
        if arg.keyword is None:
            assert known.names[place] == key
        else:
            assert arg.keyword.value == key
    assert args[-1].keyword is not None, "its order is that of Keras 3"
