"""Each construct of tf.keras: a small script before and after.

`constructs.txt` has, for each, `## name`, the script, `>>>`, the script as it
is ported, and a line `!!! line what: reason` for each thing that is left.
"""

from pathlib import Path

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.convert import port

TEXT = (Path(__file__).parent / "constructs.txt").read_text()


def cases():
    for part in TEXT.split("## ")[1:]:
        name, _, rest = part.partition("\n")
        before, _, after = rest.partition(">>>\n")
        lines = after.splitlines(keepends=True)
        left = [line for line in lines if line.startswith("!!! ")]
        code = "".join(line for line in lines if line not in left)
        yield pytest.param(before, code, left, id=name)


@pytest.mark.parametrize(("before", "after", "left"), [*cases()])
def test_a_construct(before, after, left):
    ported = port(before)
    assert ported.text == after
    found = [f"!!! {f.line} {f.what}: {f.text}\n" for f in ported.left]
    assert found == left
    assert all(f.recipe for f in ported.left)


@pytest.mark.parametrize(("before", "after", "left"), [*cases()])
def test_a_second_run_changes_nothing_and_says_what_is_left(
    before, after, left
):
    again = port(after)
    assert again.text == after
    assert bool(again.left) == bool(left)


@pytest.mark.parametrize(("before", "after", "left"), [*cases()])
def test_a_port_is_python_and_names_no_tensorflow(before, after, left):
    compile(after, "ported", "exec")
    code = [line.split("#")[0] for line in after.splitlines()]
    if not left:
        assert not [line for line in code if "tensorflow" in line]
