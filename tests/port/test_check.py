"""`--check`: both scripts run, where TensorFlow is there."""

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port import check
from keras_jax_ext.port.command import main
from keras_jax_ext.port.findings import Ported

SCRIPT = """
import numpy as np
from tensorflow import keras
model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
model.compile(keras.optimizers.SGD(lr=0.0), "mse")
x = np.ones((8, 2), "float32")
model.fit(x, 2 * np.ones((8, 1)), verbose=0)
"""


def test_without_tensorflow_it_says_so(tmp_path, monkeypatch, capsys):
    find = check.importlib.util.find_spec
    monkeypatch.setattr(
        check.importlib.util,
        "find_spec",
        lambda name: None if name == "tensorflow" else find(name),
    )
    path = tmp_path / "a.py"
    path.write_text("import keras\n")
    assert main([str(path), "--check"]) == 1
    assert "no tensorflow to compare with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ([1.0], [1.1], None),
        ([1.0], [1.3], "first loss of fit 1: 1, in the port 1.3"),
        ([1.0], [], "1 calls of fit, 0 in the port"),
        ([1.0], [float("nan")], "first loss of fit 1"),
    ],
)
def test_losses_are_compared(first, second, text):
    found = check._compared(Ported("", []), first, second).left
    assert [text in f.text for f in found] == ([True] if text else [])


def test_both_run(tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("tf_keras")
    path = tmp_path / "a.py"
    path.write_text(SCRIPT.replace("lr=", "learning_rate="))
    assert main([str(path), "--check"]) == 0
