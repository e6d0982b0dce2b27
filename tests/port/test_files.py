"""Files of every kind in, and ports out: nothing of anybody's is lost."""

import codecs
import json

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.command import main

SCRIPT = "import tensorflow as tf\nx = tf.square(2)\n"
PORTED = (
    "import keras_jax_ext as kje  # first: it selects the JAX backend\n"
    "import keras\nx = keras.ops.square(2)\n"
)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize(
    ("first", "encoding"),
    [
        ("# -*- coding: latin-1 -*-\n", "latin-1"),
        ("#!/usr/bin/python\n# coding: cp1252\n", "cp1252"),
        ("", "utf-8"),
        ("", "utf-8-sig"),
    ],
)
def test_a_script_keeps_its_encoding(tmp_path, first, encoding):
    path = tmp_path / "a.py"
    path.write_bytes((first + "# é\n" + SCRIPT).encode(encoding))
    assert main([str(path), "--in-place"]) == 0
    written = path.read_bytes()
    assert written.startswith(codecs.BOM_UTF8) == (encoding == "utf-8-sig")
    assert written.decode(encoding) == f"{first}# é\n{PORTED}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"# \xe9\n", "invalid or missing encoding declaration"),
        (b"\n\n\nx = '\xe9'\n", "can't decode byte 0xe9"),
        (b"# coding: nonsense\n", "unknown encoding: nonsense"),
        (b"# coding: rot13\n", "is not a text encoding"),
        (b"\xff\xfei\0", "invalid or missing encoding declaration"),
    ],
)
def test_another_encoding_than_it_names_is_refused(
    tmp_path, capsys, data, reason
):
    path, out = tmp_path / "a.py", tmp_path / "out.py"
    path.write_bytes(data)
    assert main([str(path), "-o", str(out)]) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert "By hand: save it as UTF-8, or name its encoding" in said
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "\n", "# none\n"])
def test_an_empty_script_is_copied(tmp_path, text, capsys):
    path, out = tmp_path / "a.py", tmp_path / "out.py"
    path.write_text(text)
    assert main([str(path), "-o", str(out)]) == 0
    assert out.read_text() == text
    assert "nothing to do" in capsys.readouterr().out


def test_a_folder_without_scripts_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text(SCRIPT)
    for name in (".venv", "site-packages", "__pycache__", "node_modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(SCRIPT)
    assert main([str(tmp_path), "--in-place"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"Received: path={tmp_path}, which has none." in said.err


def test_a_folder_is_ported_into_itself_twice(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()  # is none, whatever its name
    out = tmp_path / "ported"
    for name in (str(out), "ported"):
        assert main([str(tmp_path), "-o", name]) == 0
        files = [p for p in tmp_path.rglob("*.py") if p.is_file()]
        assert sorted(files) == [out / "script.py", script]
    assert (out / "script.py").read_text() == PORTED


def test_a_broken_link_in_a_folder_is_spoken_of(script, tmp_path, capsys):
    (tmp_path / "broken.py").symlink_to(tmp_path / "none.py")
    assert main([str(tmp_path)]) == 1
    assert "broken.py: it cannot be read" in capsys.readouterr().err


def test_work_by_hand_is_not_written_over(script, tmp_path, capsys):
    out = tmp_path / "out.py"
    for _ in range(2):  # the same again is no other
        assert main([str(script), "-o", str(out)]) == 0
    out.write_text(PORTED + "print(x)\n")
    assert main([str(script), "-o", str(out)]) == 2
    assert f"Received: --output={out}, which holds" in capsys.readouterr().err
    assert out.read_text() == PORTED + "print(x)\n"


def test_none_is_written_if_one_is_in_the_way(tmp_path):
    for name in "ab":
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.py").write_text(SCRIPT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.py").write_text("other")
    assert main([str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.py"]


@pytest.mark.parametrize("link", [False, True])
def test_the_original_is_no_output(script, tmp_path, capsys, link):
    out = script
    if link:
        out = tmp_path / "link.py"
        out.symlink_to(script)
    assert main([str(script), "-o", str(out)]) == 2
    assert "Give `--in-place`." in capsys.readouterr().err
    assert main([str(tmp_path), "-o", str(tmp_path)]) == 2
    assert script.read_text() == SCRIPT


def test_an_output_that_is_a_folder_gets_the_script(script, tmp_path):
    (tmp_path / "out").mkdir()
    assert main([str(script), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "script.py").read_text() == PORTED


def test_a_folder_needs_a_folder(script, tmp_path, capsys):
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    assert main([str(tmp_path), "-o", str(out)]) == 2
    assert f"Received: --output={out}, a file." in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_what_cannot_be_written_is_refused(script, capsys):
    assert main([str(script), "-o", str(script / "out.py")]) == 2
    assert "A port could not be written. Received: " in capsys.readouterr().err


def test_a_port_in_place_keeps_link_and_mode(script, tmp_path):
    script.chmod(0o755)
    link = tmp_path / "link.py"
    link.symlink_to(script)
    assert main([str(link), "--in-place"]) == 0
    assert link.is_symlink()
    assert script.read_text() == PORTED
    assert script.stat().st_mode & 0o777 == 0o755


def test_a_full_disk_leaves_the_original(script, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main([str(script), "--in-place"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert script.read_text() == SCRIPT


def test_two_reports_are_one_too_many(script, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(script), "--json", "--diff"])
    assert "give one of them" in capsys.readouterr().err


def test_a_notebook_keeps_its_mark_of_utf_8(tmp_path):
    path = tmp_path / "book.ipynb"
    cells = [{"cell_type": "code", "source": SCRIPT}]
    text = json.dumps({"cells": cells, "nbformat": 4})
    path.write_bytes(codecs.BOM_UTF8 + text.encode())
    assert main([str(path), "--in-place"]) == 0
    written = json.loads(path.read_bytes().decode("utf-8-sig"))
    assert written["cells"][0]["source"] == PORTED.rstrip()
