"""Functions of TensorFlow, and what computes the same without it.

`tensorflow.txt` has a row `name | arguments | becomes | examples | note` for
each that is no plain function of one or two arrays, `backend.txt` those of
`keras.backend`, several names a row: `{}` stands for each. `$x` stands for
`tf.x` and `tf.math.x`, `%x` for `tf.nn.x`.
Arguments are those of TensorFlow, in order, each one of

    x          taken as it is            x>y       called `y` now
    x=value    written out if left out   -x        left out: it changes nothing
    *x>y       given by name now         !x        not supported: refused
    +x=value   added

A row `x+` is for calls with an argument that the row `x` does not support.

A test computes each example on both sides; the manual shows this table.
"""

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent


class Row(NamedTuple):
    """A function of TensorFlow.

    Attributes:
        name: Its dotted name.
        arguments: The arguments, as this module's docstring says.
        target: The dotted name of what computes it now.
        examples: Calls that a test computes on both sides.
        note: How it differs, or an empty string.
    """

    name: str
    arguments: str
    target: str
    examples: tuple[str, ...]
    note: str


_UNARY = """
abs exp sqrt square sign floor ceil round sin cos tan sinh cosh tanh log1p
expm1 erf sigmoid log rsqrt asin acos atan asinh acosh atanh
"""
_RENAMED = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
}
# Those that TensorFlow has at its top, too.
_AT_TOP = {
    "abs",
    "exp",
    "sqrt",
    "square",
    "sign",
    "floor",
    "round",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "sigmoid",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
}
_BINARY = """
add:add subtract:subtract multiply:multiply divide:divide maximum:maximum
minimum:minimum pow:power floordiv:floor_divide equal:equal
not_equal:not_equal greater:greater greater_equal:greater_equal less:less
less_equal:less_equal logical_and:logical_and logical_or:logical_or
atan2:arctan2 mod:mod floormod:mod truediv:true_divide logical_xor:logical_xor
"""
_NOT_AT_TOP = ("mod", "floordiv", "floormod", "logical_xor", "atan2")
_LOGICAL = ("logical_and", "logical_or", "logical_xor")
_REDUCED = """
reduce_sum:sum reduce_max:max reduce_min:min reduce_prod:prod reduce_any:any
reduce_all:all reduce_mean:mean reduce_std:std reduce_variance:var
reduce_logsumexp:logsumexp
"""
_FLOORS = "of integers, TensorFlow's mean is an integer, rounded down"


def _lines(name: str) -> list[str]:
    return (_FOLDER / name).read_text().strip().splitlines()


def _parsed() -> dict[str, Row]:
    rows = {}

    def add(name, arguments, target, examples="", note=""):
        given = tuple(e.strip() for e in examples.split(";") if e.strip())
        rows[name] = Row(name, arguments, target, given, note)

    for name in _UNARY.split():
        target = f"keras.ops.{_RENAMED.get(name, name)}"
        value = "A"
        if name in ("sqrt", "log", "rsqrt", "log1p"):
            value = "P"
        if name in ("asin", "acos", "atanh"):
            value = "P / 9.0"
        if name == "acosh":
            value = "P + 1.0"
        add(f"math.{name}", "x -name", target, f"tf.math.{name}({value})")
        if name in _AT_TOP:
            add(name, "x -name", target, f"tf.{name}({value})")
    for pair in _BINARY.split():
        name, target = pair.split(":")
        values = "A > 0, B > 0" if name in _LOGICAL else "A, P"
        if name == "pow":
            values = "P, A"
        call = f"{name}({values})"
        spec = "x>x1 y>x2 -name"
        add(f"math.{name}", spec, f"keras.ops.{target}", f"tf.math.{call}")
        if name not in _NOT_AT_TOP:
            add(name, spec, f"keras.ops.{target}", f"tf.{call}")
    for pair in _REDUCED.split():
        name, target = pair.split(":")
        x = "A > 0" if name in ("reduce_any", "reduce_all") else "A"
        spec = "input_tensor>x axis keepdims -name"
        call = f"{name}({x}); tf.math.{name}({x}, axis=1, keepdims=True)"
        note = _FLOORS if name == "reduce_mean" else ""
        add(f"math.{name}", spec, f"keras.ops.{target}", f"tf.math.{call}")
        if name not in ("reduce_std", "reduce_variance"):
            call = f"tf.{name}({x}); tf.{name}({x}, 1)"
            add(name, spec, f"keras.ops.{target}", call, note)
    for line in _lines("tensorflow.txt"):
        cells = [cell.strip() for cell in line.split("|")]
        name = cells[0]
        if name.startswith("$"):
            add(f"math.{name[1:]}", *cells[1:])
        # `tf.segment_sum` is not there: harmless, no script has it.
        add(name.replace("%", "nn.").removeprefix("$"), *cells[1:])
    found = {f"tensorflow.{n}": r for n, r in rows.items()}
    for line in _lines("backend.txt"):
        names, arguments, target, example, _ = (
            c.strip() for c in line.split("|")
        )
        for name in names.split():
            whole = f"keras.backend.{name}"
            to = target + name if target.endswith(".") else target
            texts = (example.replace("{}", name),) if example else ()
            found[whole] = Row(whole, arguments, to, texts, "")
    return {n: r._replace(name=n) for n, r in found.items()}


OPERATIONS: dict[str, Row] = _parsed()
