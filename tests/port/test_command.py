"""The command: files, folders, notebooks, and input that is none of them."""

import json
import subprocess
import sys
import types

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.before import ALREADY, NOTHING
from keras_jax_ext.port.command import main
from keras_jax_ext.port.convert import port

SCRIPT = "import tensorflow as tf\nprint(tf.square(2.0))\n"
PORTED = (
    "import keras_jax_ext as kje  # first: it selects the JAX backend\n"
    "import keras\n"
    "print(keras.ops.square(2.0))\n"
)
LEFT = "import tensorflow as tf\nx = tf.nonsense(2)\n"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_a_script_is_written_beside_the_original(script, tmp_path):
    out = tmp_path / "sub" / "out.py"
    assert main([str(script), "-o", str(out)]) == 0
    assert out.read_text() == PORTED
    assert script.read_text() == SCRIPT


def test_a_script_is_ported_in_place_once(script, capsys):
    assert main([str(script), "--in-place"]) == 0
    assert script.read_text() == PORTED
    assert main([str(script), "--in-place"]) == 0
    assert script.read_text() == PORTED


def test_a_difference_is_shown_and_nothing_written(script, capsys):
    assert main([str(script), "--diff"]) == 0
    assert "-print(tf.square(2.0))" in capsys.readouterr().out
    assert script.read_text() == SCRIPT


def test_what_is_left_is_said_by_line_with_a_recipe(tmp_path, capsys):
    path = tmp_path / "left.py"
    path.write_text(LEFT)
    assert main([str(path)]) == 1
    said = capsys.readouterr()
    assert f"{path}:2: tf.nonsense: " in said.err
    assert "By hand: " in said.err
    assert said.err.splitlines()[-1] == "1 to do by hand."


def test_the_report_is_json_too(script, capsys):
    assert main([str(script), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["ported"] is True
    (finding,) = report["findings"]
    assert finding == {
        "line": 2,
        "kind": "done",
        "what": "tf.square(2.0)",
        "text": "`keras.ops.square`",
        "recipe": "",
    }


def test_a_folder_is_ported_whole(script, tmp_path):
    (tmp_path / "left.py").write_text(LEFT)
    out = tmp_path.parent / "ported"
    assert main([str(tmp_path), "-o", str(out)]) == 1
    assert (out / "script.py").read_text() == PORTED
    assert (out / "left.py").exists()


def test_a_folder_of_nothing_left_is_done(script, tmp_path):
    (tmp_path / "plain.py").write_text("import os\n")
    out = tmp_path.parent / "done"
    assert main([str(tmp_path), "-o", str(out)]) == 0
    assert (out / "plain.py").read_text() == "import os\n"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("import keras\nprint 'a'\nx = 1\n", 2, "it is Python 2"),
        ("import keras\nx = (\n", 3, "it is no Python 3"),
        ("import keras\n%matplotlib inline\n", 2, "it has magics"),
    ],
)
def test_what_cannot_be_read_is_refused(text, line, reason):
    ported = port(text)
    assert ported.text == text
    (finding,) = ported.left
    assert abs(finding.line - line) <= 1
    assert reason in finding.text


def test_bytes_that_are_no_text_are_refused(tmp_path, capsys):
    path = tmp_path / "a.py"
    path.write_bytes(b"\xff\xfe\x00")
    assert main([str(path)]) == 1
    assert (
        "it cannot be read: invalid or missing encoding"
        in capsys.readouterr().err
    )


def test_no_file_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path / "none.py")]) == 2
    assert "No script was found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("import numpy as np\n", NOTHING),
        ("import keras\nx = keras.ops.square(2)\n", ALREADY),
        ('os.environ["KERAS_BACKEND"] = "jax"\nimport keras\n', ALREADY),
        ("import keras_jax_ext as kje\nimport keras\n", ALREADY),
    ],
)
def test_what_needs_nothing_is_left_as_it_is(text, note):
    ported = port(text)
    assert ported.text == text
    assert ported.note == note
    assert ported.left == []


def test_line_ends_and_tabs_stay():
    text = "import tensorflow as tf\r\nif x:\r\n\ty = tf.square(x)  # why\r\n"
    ported = port(text).text
    assert ported.count("\r\n") == ported.count("\n") == 4
    assert "\ty = keras.ops.square(x)  # why\r\n" in ported


def test_the_command_needs_no_tensorflow(script):
    done = subprocess.run(
        [sys.executable, "-m", "keras_jax_ext.port", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 done, 0 differs, 0 to do" in done.stdout


def test_a_port_that_is_no_python_is_not_written(monkeypatch):
    wrong = types.SimpleNamespace(code="x = (")
    made = types.SimpleNamespace(run=lambda: wrong)
    monkeypatch.setattr(
        "keras_jax_ext.port.convert.Imports", lambda *args: made
    )
    ported = port(SCRIPT)
    assert ported.text == SCRIPT
    assert ported.left[-1].text.startswith("the tool failed: SyntaxError")
