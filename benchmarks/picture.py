"""Draw the speed of `fit` as bars, from the numbers of `fit.py --json`.

    python benchmarks/fit.py --json docs/pictures/speed.json
    python benchmarks/picture.py

Each work has two bars: the time of a step in stock Keras, always as long, and
the share of it that ours takes. Nothing is timed here.
"""

import argparse
import datetime
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
STOCK, OURS, INK, PALE = "#b8bec9", "#3556d4", "#1c2230", "#5a6272"
WORDS = {
    "article's model": "mixture density network\n(the article's model)",
    "8-32-1, batch 32": "dense 8-32-1",
    "784-128-128-10, batch 32": "dense 784-128-128-10",
    "convolutional, 28x28": "convolutions, 28x28",
    "LSTM, batch 64": "LSTM",
    "LSTM, ten epochs a call": "LSTM, ten epochs",
    "generator, 784": "dense 784-128-128-10,\nfrom a generator",
    "evaluate, article's": "evaluate, article's model",
    "predict, article's": "predict, article's model",
}


def time(microseconds: float) -> str:
    """A time in two or three figures."""
    if microseconds >= 10_000:
        return f"{microseconds / 1000:.1f} ms"
    if microseconds >= 1000:
        return f"{microseconds / 1000:.2f} ms"
    return f"{microseconds:.3g} µs"


def pair(axes: plt.Axes, row: int, times: dict[str, float]) -> None:
    """The two bars of one work, and what they say."""
    ratio = times["stock"] / times["ours"]
    axes.barh(row - 0.19, 1, 0.34, color=STOCK)
    axes.barh(row + 0.19, 1 / ratio, 0.34, color=OURS)
    text = {"va": "center", "fontsize": 9}
    axes.text(1.015, row - 0.19, time(times["stock"]), color=PALE, **text)
    speed = f"{ratio:.{0 if ratio >= 10 else 1 if ratio >= 2 else 2}f}"
    said = axes.text(
        1 / ratio + 0.015,
        row + 0.19,
        f"{time(times['ours'])} · {speed}x",
        color=INK,
        fontweight="bold",
        **text,
    )
    # On the blue bar there would be no room to its right.
    if ratio < 1.2:
        said.set(x=1 / ratio - 0.015, ha="right", color="white")


def draw(measured: dict, path: Path) -> None:
    """Write the picture of what `fit.py` measured."""
    table = measured["microseconds_a_step"]
    mpl.rcParams["svg.hashsalt"] = "speed"  # the same file for the same numbers
    mpl.rcParams["svg.fonttype"] = "none"  # letters, not their outlines: small
    figure, axes = plt.subplots(figsize=(6.2, 0.5 * len(table) + 1.5))
    for row, times in enumerate(table.values()):
        pair(axes, row, times)
    axes.barh(0, 0, color=STOCK, label="stock Keras")
    axes.barh(0, 0, color=OURS, label="keras_jax_ext")
    names = [WORDS.get(name, name) for name in table]
    axes.set_yticks(range(len(table)), names, fontsize=9, color=INK)
    axes.set(xlim=(0, 1.17), ylim=(len(table) - 0.4, -0.6), xticks=[])
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "Time of a step: shorter is faster",
        loc="left",
        pad=26,
        fontsize=11,
        fontweight="bold",
        color=INK,
    )
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize=9,
        borderpad=0,
    )
    day = datetime.date.fromisoformat(measured["date"])
    axes.set_xlabel(
        f"{measured['versions']}\n{measured['machine']}, {day.day} {day:%B %Y}",
        loc="left",
        fontsize=8,
        color=PALE,
    )
    figure.tight_layout()
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Read the numbers, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=PICTURES / "speed.json")
    parser.add_argument("--out", type=Path, default=PICTURES / "speed.svg")
    options = parser.parse_args(argv)
    draw(json.loads(options.json.read_text()), options.out)
    print("picture:", options.out)


if __name__ == "__main__":
    main()
