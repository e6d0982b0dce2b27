"""Rows of a summary as a table in Keras's look."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._seeing.rows import Row, Shape

import keras
import rich.console
import rich.markup
import rich.table

_escaped = rich.markup.escape


def shown(
    root: Row, depth: int | None, layer_range: Sequence[str] | None
) -> list[Row]:
    """Return the rows down to `depth`, in order of call."""
    if depth == 0:
        return [root]
    top = _complete(root)
    low, high = _keras.layer_bounds([r.layer for r in top], layer_range)
    rows = []

    def add(row):
        rows.append(row)
        if depth is None or row.level < depth:
            for below in row.below:
                add(below)

    for row in top[low:high]:
        add(row)
    return rows


def _complete(root):
    """The rows below the root, then rows of its layers that were not called."""
    called, waiting = set(), [root]
    while waiting:
        row = waiting.pop()
        called.add(id(row.layer))
        waiting += row.below
    uncalled = [
        Row(layer, 1, [], [])
        for layer in root.layer.layers
        if id(layer) not in called and layer.weights
    ]
    return root.below + uncalled


def show(
    model: keras.Model,
    rows: Sequence[Row],
    *,
    line_length: int | None,
    positions: Sequence[float] | None,
    print_fn: Callable[..., Any] | None,
    show_trainable: bool,
) -> None:
    """Print the table and the totals, in Keras's look."""
    width, columns = _columns(line_length, positions, show_trainable)
    table = rich.table.Table(*columns, width=width, show_lines=True)
    for row in rows:
        table.add_row(*_cells(row, show_trainable))
    title = _keras.bold_text(f'Model: "{_escaped(model.name)}"')
    print_lines([title, table, *_totals(model)], print_fn, width)


def print_lines(
    lines: Iterable[Any],
    print_fn: Callable[..., Any] | None,
    width: int = 0,
) -> None:
    """Print to the terminal or notebook, or call `print_fn` with the text.

    Args:
        lines: Strings and tables of rich.
        print_fn: As in `summary`.
        width: Least characters in a line. Defaults to 0.
    """
    if not print_fn and not keras.config.is_interactive_logging_enabled():
        print_fn = _keras.print_msg
    plain: Any = {"force_terminal": False, "color_system": None}
    console = rich.console.Console(
        highlight=False, **(plain if print_fn else {})
    )
    # Else rich would cut a line that is longer than the terminal.
    console.width = max(console.width, width)
    if print_fn:
        console.begin_capture()
    for line in lines:
        console.print(line)
    if print_fn:
        end = {"line_break": False} if print_fn is _keras.print_msg else {}
        print_fn(console.end_capture(), **end)


def _columns(line_length, positions, show_trainable):
    """The width of a line, and the columns."""
    widest = 100 if show_trainable else 88
    width = line_length or min(widest, shutil.get_terminal_size().columns - 4)
    positions = list(positions or [0.40, 0.74, 1.0])
    names = ["Layer (type)", "Output Shape", "Param #"]
    justify: list[Any] = ["left", "left", "right"]
    if show_trainable:
        positions = [p * 0.9 for p in positions] + [1.0]
        names.append("Trainable")
        justify.append("center")
    if positions[-1] > 1:  # in characters, as in older versions of Keras
        positions = [p / positions[-1] for p in positions]
    ends = [int(position * width) for position in positions]
    widths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    if len(widths) != len(names) or min(widths) < 4:
        raise ValueError(
            "Each column of a summary needs 4 characters, and `positions` one "
            f"entry for each column. Received: line_length={line_length} and "
            f"positions={positions} for the columns {names}."
        )
    return width, [
        rich.table.Column(name, justify=side, width=size)
        for name, side, size in zip(names, justify, widths, strict=True)
    ]


def _cells(row, show_trainable):
    layer = row.layer
    name = "   " * (row.level - 1) + "└ " if row.level > 1 else ""
    name = _escaped(name + layer.name)
    kind = _keras.highlight_symbol(_escaped(type(layer).__name__))
    count = _sizes(layer.weights) if layer.weights else _number(0)
    cells = [f"{name} ({kind})", _outputs(row.outputs), count]
    if show_trainable:
        cells.append(_trained(layer))
    return cells


def _trained(layer):
    if not layer.weights:
        return _keras.bold_text("-")
    if layer.trainable:
        return _keras.bold_text("Y", color=34)
    return _keras.bold_text("N", color=9)


def _number(value):
    return _keras.highlight_number(value)


def _sizes(weights):
    """The number of parameters, and the bytes that they take."""
    weights = list({id(w): w for w in weights}.values())
    size = _keras.readable_memory_size(_keras.weight_memory_size(weights))
    return f"{_number(f'{_keras.count_params(weights):,}')} ({size})"


def _outputs(outputs):
    """A line for each different output, with how often it was returned."""
    texts = [_written(output) for output in outputs]
    lines = []
    for text in dict.fromkeys(texts):
        times = texts.count(text)
        lines.append(f"{text} x {times}" if times > 1 else text)
    return "\n".join(lines) or "-"


def _written(shapes):
    if isinstance(shapes, Shape):
        sizes = ", ".join(_number(size) for size in shapes)
        return f"({sizes},)" if len(shapes) == 1 else f"({sizes})"
    if isinstance(shapes, list):
        return _escaped("[") + ", ".join(map(_written, shapes)) + "]"
    if isinstance(shapes, dict):
        parts = [
            f"{_escaped(str(k))}: {_written(v)}" for k, v in shapes.items()
        ]
        return "{" + ", ".join(parts) + "}"
    return _escaped(str(shapes))


def _totals(model):
    """The lines below the table."""
    groups = {
        "Trainable": model.trainable_weights,
        "Non-trainable": model.non_trainable_weights,
    }
    optimizer = model.optimizer if model.compiled else None
    if optimizer is not None and optimizer.built:
        groups["Optimizer"] = optimizer.variables
    everything = [w for weights in groups.values() for w in weights]
    groups = {"Total": everything, **groups}
    for name, weights in groups.items():
        yield _keras.bold_text(f" {name} params: ") + _sizes(weights)
