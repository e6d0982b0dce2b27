"""Notebooks: cells and magics stay, what is found is said by cell."""

import json

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.command import main
from keras_jax_ext.port.notebook import port

TF = "import tensorflow as tf"


def notebook(*cells):
    return {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title"]},
            *({"cell_type": "code", "source": c, "outputs": []} for c in cells),
        ],
        "nbformat": 4,
        "metadata": {},
    }


def test_a_notebook_keeps_its_magics_and_cells(tmp_path):
    path = tmp_path / "book.ipynb"
    cells = (
        ["%matplotlib inline\n", "import tensorflow as tf\n", "!pip list"],
        ["x = tf.square(2.0)\n", "x"],
        ["%%bash\n", "ls tf.square"],
    )
    path.write_text(json.dumps(notebook(*cells)))
    assert main([str(path), "--in-place"]) == 0
    written = json.loads(path.read_text())
    code = ["".join(c["source"]) for c in written["cells"][1:]]
    assert code == [
        "%matplotlib inline\n"
        "import keras_jax_ext as kje  # first: it selects the JAX backend\n"
        "import keras\n"
        "!pip list",
        "x = keras.ops.square(2.0)\nx",
        "%%bash\nls tf.square",
    ]
    again = path.read_text()
    assert main([str(path), "--in-place"]) == 0
    assert path.read_text() == again


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"cells": [3]}',
        '{"cells": [{"cell_type": "code", "source": null}]}',
        '{"cells": [{"cell_type": "code", "source": [1]}]}',
        '{"worksheets": [{"cells": []}], "nbformat": 3}',
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, text, capsys):
    path = tmp_path / "book.ipynb"
    path.write_text(text)
    assert main([str(path)]) == 1
    assert "it is no notebook" in capsys.readouterr().err


def ported(*cells, **more):
    """The code of the cells behind the first, which imports TensorFlow."""
    text = json.dumps(notebook(TF, *cells) | more)
    found = port(text)
    left = [f"{f.line} {f.what}: {f.text}" for f in found.left]
    cells = json.loads(found.text)["cells"][2:]
    return [c["source"] for c in cells], left


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("%time y = tf.square(2)", "%time y = keras.ops.square(2)"),
        ("%timeit -n 3 tf.abs(x)", "%timeit -n 3 keras.ops.abs(x)"),
        ("%%time\ny = tf.square(2)", "%%time\ny = keras.ops.square(2)"),
        ("%%capture o\ntf.abs(x)", "%%capture o\nkeras.ops.abs(x)"),
        ("f = !ls\ntf.abs(x);", "f = !ls\nkeras.ops.abs(x);"),
        ("if x:\n    !ls\nelse:\n    %time f()", None),
        ("%%writefile time.py\nnot Python !", None),
        ("%%bash\ntime tf.square 'x", None),
        ('s = """\n%d\n!x\n"""', None),
        ("tf.square?", None),
        ("", None),
        ("await f()", None),
        ("# a comment", None),
    ],
)
def test_code_in_magics_is_ported_and_other_text_stays(before, after):
    found = ported(before, "tf.abs(x)")
    assert found == ([after or before, "keras.ops.abs(x)"], [])


@pytest.mark.parametrize(
    ("cell", "place"),
    [
        ("%%writefile a.py\nimport tensorflow as tf", "2 cell 2: import"),
        ("x = 1\n%prun tf.square(2)", "2 cell 2: %prun"),
        ("t = %timeit -o tf.square(2)", "1 cell 2: t = %timeit"),
    ],
)
def test_code_that_a_magic_hides_is_refused(cell, place):
    (code,), (left,) = ported(cell)
    assert code == cell
    assert left.startswith(place)
    assert left.endswith("code in a magic is not ported")


@pytest.mark.parametrize(
    ("cell", "left"),
    [
        ("x = 1\n\ny = tf.nonsense(x)", "3 cell 3: tf.nonsense: the tool's"),
        ("print 'x'", "1 cell 3: print 'x': it is Python 2"),
        ("x = 2\n\n\ny = (", "4 cell 3: y = (: it is no Python 3"),
    ],
)
def test_what_is_left_is_said_by_cell_and_its_line(cell, left):
    assert ported("z = 1\n\n", cell, "z = 2")[1][0].startswith(left)


def test_a_line_that_goes_leaves_its_cell():
    cells = ("tf.config.run_functions_eagerly(True)", "x = tf.square(2)")
    assert ported(*cells) == (["", "x = keras.ops.square(2)"], [])


def test_a_cell_that_is_lost_is_a_fault_of_the_tool(monkeypatch):
    from keras_jax_ext.port import convert
    from keras_jax_ext.port.findings import Ported

    monkeypatch.setattr(
        convert, "port", lambda text: Ported(text.replace("cell 1", ""), [])
    )
    text = json.dumps(notebook(TF, "x = 1"))
    assert port(text).text == text
    assert port(text).left[0].text == "the tool failed: it has lost a cell"


@pytest.mark.parametrize(
    "metadata",
    [{"kernelspec": {"language": "R"}}, {"language_info": {"name": "R"}}],
)
def test_another_language_is_refused(metadata):
    assert ported("x", metadata=metadata)[1] == ["1 : it is of r"]
