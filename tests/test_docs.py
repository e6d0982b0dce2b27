"""What README and the docs say is so: their code runs, and no name is missing.

Blocks marked `python` run, in order, in one scope a page; `py` marks what is
shown of other libraries. A line `value  # repr` holds what it says.
"""

import re
from pathlib import Path

import keras_jax_ext as kje

import keras
import numpy as np
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


README = (ROOT / "README.md").read_text()


def script(language):
    """The one script of README in a block of this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    return found


def losses(code):
    """Those of the epochs that a script of README trains."""
    scope = {}
    exec(code.replace("epochs=5)", "epochs=5, verbose=0)"), scope)
    return scope["model"].history.history["loss"]


def test_both_scripts_of_readme_train_alike():
    stock, ours = losses(script("py")), losses(script("python"))
    assert ours[-1] < ours[0] - 0.2
    # The two Adams differ in their epsilon.
    np.testing.assert_allclose(ours, stock, rtol=0.02)


def test_the_first_page_of_the_site_shows_the_scripts_of_readme():
    home = (ROOT / "docs" / "index.md").read_text()
    for language in ("py", "python"):
        assert f"\n{script(language)}```" in home


def test_readme_is_short():
    assert len(README.split()) <= 700


def test_the_pictures_of_readme_are_small_files_of_the_repository():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(shown) == 2
    assert all((ROOT / path).is_file() for path in shown)
    pictures = (ROOT / "docs" / "pictures").iterdir()
    assert sum(path.stat().st_size for path in pictures) < 600_000


def test_every_example_is_in_the_gallery_with_its_picture():
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    examples = ROOT / "examples"
    for example in (*examples.glob("*.py"), examples / "tour.ipynb"):
        assert f"examples/{example.name}" in gallery
        assert f"](pictures/{example.stem}.png)" in gallery
        assert (ROOT / "docs" / "pictures" / f"{example.stem}.png").is_file()


def documented():
    """The public paths in the API pages, methods as `Class.method`."""
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for path, options in re.findall(
            r"^::: (\S+)\n((?: +.*\n)*)", page.read_text(), re.M
        ):
            yield path
            members = options.partition("members:\n")[2]
            members = re.findall(r"- (\w+)", members)
            members += re.findall(r"members: \[(\w+)\]", options)
            yield from (f"{path}.{member}" for member in members)


# Their own names are documented one by one, the others are Keras's.
SPACES = ["callbacks", "losses", "metrics", "optimizers"]


def is_ours(value):
    return str(getattr(value, "__module__", "")).startswith("keras_jax_ext")


def offered():
    """The public path of every name, and method, that is ours."""
    for space in SPACES:
        module = getattr(kje, space)
        own = [n for n, v in vars(module).items() if is_ours(v)]
        for name in getattr(module, "__all__", own):
            if not name.startswith("_"):
                yield f"keras_jax_ext.{space}.{name}"
    for name in {*kje.__all__} - {*SPACES, "models"}:
        yield f"keras_jax_ext.{name}"
    for cls in (kje.Model, kje.Layer):
        for method in dir(cls):
            owner = next((c for c in cls.__mro__ if method in vars(c)), object)
            told = getattr(vars(owner).get(method), "__doc__", None)
            if told and is_ours(owner) and not method.startswith("_"):
                yield f"keras_jax_ext.{cls.__name__}.{method}"


def test_the_api_has_every_public_name():
    assert {*offered()} <= {*documented()}
    assert len({*offered()}) > 50


def test_the_list_of_names_links_to_each():
    listed = (ROOT / "docs" / "api" / "index.md").read_text()
    links = re.findall(r"\]\[(keras_jax_ext[.\w]+)\]", listed)
    assert sorted(links) == sorted(documented())


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_page_names_no_private_path(page):
    assert not re.search(r"\b(keras_jax_ext|kje)[.\w]*\._", page.read_text())
