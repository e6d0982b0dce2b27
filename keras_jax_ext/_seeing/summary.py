"""`model.summary(x, depth)`: trace the calls, collect rows, then render."""

from collections.abc import Callable, Sequence
from typing import Any

from keras_jax_ext import _keras
from keras_jax_ext._seeing import rows, table

_UNBUILT = (
    " Layers are declared at the first use. To see them now, give a sample "
    "input: summary(x)."
)


class Summary(_keras.Mixin):
    """Mixin: `summary` with a sample input and a depth."""

    def summary(
        self,
        x: Any = None,
        depth: int | None = None,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[..., Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print the layers in order of call, their outputs and their sizes.

        `call` is traced on shapes only, so nothing is computed. The parameters
        of a row include those of the layers below it. A layer that is called
        several times has one row, with the output of each call. Without `x`
        and `depth`, Keras prints a model without inline layers.

        Example:

        ```python
        model.summary(np.zeros((64, 3), "float32"), depth=1)
        ```

        Args:
            x: Sample input: arrays, or `keras.KerasTensor`s. Builds a model
                that is not built. Defaults to `None`, the shapes that the
                model was built with, for any batch size.
            depth: Integer, how many levels of layers to show; 0 shows the
                model as one row. Defaults to 1, or all levels with
                `expand_nested`.
            line_length: Integer, characters in a line. Also accepted as the
                first argument, as in Keras. Defaults to the terminal, at
                most 88.
            positions: Where the columns end, as fractions of the line.
                Defaults to `None`.
            print_fn: Function to call with the text, instead of `print`.
            expand_nested: Boolean, whether to show all levels.
            show_trainable: Boolean, whether to show which layers are trained.
            layer_range: Pair of names or patterns, the first and the last
                layer to show. Defaults to `None`.

        Raises:
            ValueError: If the model cannot be traced on `x`, which leaves it
                as it was, or `depth` is given and no shapes are known.
        """
        if isinstance(x, int):  # Keras's first argument is `line_length`
            line_length, x = x, None
        _check_depth(depth)
        look: dict[str, Any] = {
            "line_length": line_length,
            "positions": positions,
            "print_fn": print_fn,
            "show_trainable": show_trainable,
        }
        root = rows.collect(self, x, depth)
        if root is None:
            super().summary(
                expand_nested=expand_nested, layer_range=layer_range, **look
            )
            if getattr(self, "_declares", False) and not self.layers:
                table.print_lines([_UNBUILT], print_fn)
            return
        if depth is None and not expand_nested:
            depth = 1
        table.show(self, table.shown(root, depth, layer_range), **look)


def _check_depth(depth):
    if depth is None:
        return
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        raise ValueError(
            "`depth` is the number of levels to show, an integer of at least "
            f"0. Received: depth={depth!r} (of type {type(depth).__name__})."
        )
