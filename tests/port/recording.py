"""Records what TensorFlow computes for each example of the table.

Run it where TensorFlow and tf_keras are, from the root of the repository:
`python tests/port/recording.py`. It needs no JAX. `examples` is used by the
tests, too.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "keras_jax_ext/port/tables/operations.py"


def examples():
    """The arrays that the examples are about."""
    rng = np.random.default_rng(0)
    square = rng.normal(size=(3, 3))
    return {
        "A": rng.normal(size=(3, 4)).astype("float32"),
        "B": rng.normal(size=(3, 4)).astype("float32"),
        "P": rng.uniform(0.5, 5, size=(3, 4)).astype("float32"),
        "V": rng.normal(size=4).astype("float32"),
        "I": np.array([2, 0, 1], "int32"),
        "M": rng.normal(size=(4, 2)).astype("float32"),
        "S": (square @ square.T + 3 * np.eye(3)).astype("float32"),
        "IMG": rng.uniform(size=(2, 6, 6, 3)).astype("float32"),
        "KERNEL": rng.normal(size=(3, 3, 3, 2)).astype("float32"),
    }


def plain(value):
    """A result as JSON: lists of dicts with shape, kind and values."""
    if isinstance(value, (list, tuple)) and any(
        hasattr(v, "shape") for v in value
    ):
        return [plain(v) for v in value]
    array = np.asarray(value)
    kind = array.dtype.kind.replace("u", "i")
    values = array.astype("float64") if kind in "if" else array
    return {
        "shape": list(array.shape),
        "kind": kind,
        "values": [
            round(v, 7) if kind == "f" else v for v in values.ravel().tolist()
        ],
    }


def table():
    """The rows, without the package: it would import JAX."""
    spec = importlib.util.spec_from_file_location("operations", TABLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["operations"] = module
    spec.loader.exec_module(module)
    return module.OPERATIONS


def main():
    import tensorflow as tf
    import tf_keras

    names = {"tf": tf, "K": tf_keras.backend} | {
        n: tf.constant(a) for n, a in examples().items()
    }
    found = {}
    for row in table().values():
        for example in row.examples:
            try:
                found[example] = plain(eval(example, dict(names)))
            except Exception as error:  # an example that is wrong
                print(example, type(error).__name__, str(error)[:200])
    path = HERE / "recorded.json"
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(found), "examples")


if __name__ == "__main__":
    main()
