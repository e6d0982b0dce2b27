"""The manual shows what the tool does."""

import re
from pathlib import Path

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.convert import port
from keras_jax_ext.port.manual import manual

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "porting-tf-keras.md").read_text().partition("## By hand")[0]
PAIRS = list(
    zip(
        re.findall(r"```py\n(.*?)```", PAGE, re.S),
        re.findall(r"```python\n(.*?)```", PAGE, re.S),
        strict=True,
    )
)


def test_the_table_of_the_manual_is_that_of_the_tool():
    # Anew: python -m keras_jax_ext.port.manual docs/porting-operations.md
    assert (DOCS / "porting-operations.md").read_text() == manual()


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_script_of_the_manual_is_what_the_tool_writes(before, after):
    ported = port(before)
    assert ported.left == []
    assert ported.text == after
