"""Make the pictures of the gallery: run the examples, shrink what they draw.

    python docs/pictures/make.py
    python docs/pictures/make.py digits tour

The examples run as a reader runs them, without `--quick`, but for the one that
takes many minutes. `benchmarks/picture.py` draws the picture of the speed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
# The picture of each example, and the name of what it draws.
DRAWN = {
    "mixture_density": "mixture_density_article_components",
    "variational_autoencoder": "variational_autoencoder",
    "multi_task": "multi_task",
    "lbfgs": "lbfgs",
    "burgers": "burgers",
    "error_band": "error_band",
    "ensemble": "ensemble",
    "gan": "gan",
    "fine_tuning": "fine_tuning",
    "digits": "digits",
    "characters": "characters",
    "ported": "ported",
    "multi_process": "multi_process",
    "tour": "tour",
}
ARGUMENTS = {
    "characters": ["--epochs", "5"],
    "multi_process": ["--processes", "2"],
}
WIDTH, COLOURS = 720, 48  # under 60 kB each


def script_of(name: str) -> list[str]:
    """What runs an example; the notebook is run for its last figure."""
    if name != "tour":
        script = str(ROOT / "examples" / f"{name}.py")
        return [script, "--out", ".", *ARGUMENTS.get(name, [])]
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text())
    cells = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
    show = (
        "plt.show = lambda: (plt.savefig('tour.png', dpi=110, "
        "bbox_inches='tight'), plt.close())"
    )
    first, *rest = cells
    return ["-c", "\n".join([first, show, *rest])]


def shrink(drawn: Path, path: Path) -> None:
    """A picture of few colours, on white: it is readable in dark mode too."""
    picture = Image.open(drawn).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    if picture.width > WIDTH:
        height = round(picture.height * WIDTH / picture.width)
        picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def make(name: str) -> None:
    """Run one example in a folder of its own, and keep its picture."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, *script_of(name)],
            cwd=folder,
            env={**os.environ, "MPLBACKEND": "Agg"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        path = HERE / f"{name}.png"
        shrink(Path(folder) / f"{DRAWN[name]}.png", path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def main(argv: list[str] | None = None) -> None:
    """Make the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="EXAMPLE", help=f"of {', '.join(DRAWN)}"
    )
    names = parser.parse_args(argv).names
    unknown = set(names) - {*DRAWN}
    if unknown:
        parser.error(f"no example is called {', '.join(sorted(unknown))}")
    for name in names or DRAWN:
        make(name)


if __name__ == "__main__":
    main()
