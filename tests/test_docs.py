"""Every Python block of README and of the docs runs, page by page.

Blocks marked `python` run, in order, in one scope a page; `py` marks what is
shown of other libraries. A line `value  # repr` holds what it says.
"""

import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# `expression  # its value`, where the value is written out.
CLAIM = re.compile(r"^([^\s#=].*?)  # (\(.*\)|\[.*\]|'.*'|True|[\d.]+)$", re.M)


def blocks(page):
    """The code that runs, with the lines before it: errors say where."""
    text = page.read_text()
    for found in re.finditer(r"```python\n(.*?)```", text, re.S):
        yield "\n" * text[: found.start(1)].count("\n") + found[1]


def runs(page):
    return any(blocks(page))


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if runs(p)],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    scope = {"__name__": page.stem.replace("-", "_")}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), scope)
        for expression, value in CLAIM.findall(block):
            if not expression.startswith(("def ", "class ", "import ")):
                held = eval(expression, scope)
                if isinstance(held, float):
                    held = round(held, 6)
                assert repr(held) == value, expression


def test_every_page_is_in_the_navigation():
    listed = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in listed
