"""Ways to import the package, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

USE = """
import numpy as np
import keras_jax_ext as kje
class Net(kje.Model):
    def call(self, x):
        return kje.layers.Dense(2)(x)
model = Net()
print(model(np.ones((1, 3), "float32")).shape, keras.config.backend())
"""
WORKS = "(1, 2) jax"


def run(code, home, **environment):
    """Run `code` with a fresh Keras home; returns the finished process."""
    clean = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**clean, "KERAS_HOME": str(home), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def has_tensorflow():
    check = "import importlib.util as u; print(u.find_spec('tensorflow'))"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True
    )
    return done.stdout.strip() != "None"


def test_the_extension_first(tmp_path):
    done = run("import keras_jax_ext, keras" + USE, tmp_path)
    assert done.stdout.strip() == WORKS, done.stderr
    # Keras writes its default, tensorflow, into a new configuration.
    assert not (tmp_path / "keras.json").exists()


@pytest.mark.skipif(has_tensorflow(), reason="TensorFlow is installed")
def test_without_tensorflow_after_a_failed_import_of_keras(tmp_path):
    code = (
        "try:\n    import keras\n"
        "except ModuleNotFoundError as error:\n    print(error.name)\n"
        "import keras_jax_ext, keras"
    )
    done = run(code + USE, tmp_path)
    assert done.stdout.split("\n")[:2] == ["tensorflow", WORKS], done.stderr


def test_a_configuration_of_the_user_is_kept(tmp_path):
    config = tmp_path / "keras.json"
    config.write_text(json.dumps({"backend": "tensorflow", "epsilon": 1e-5}))
    done = run("import keras_jax_ext, keras" + USE, tmp_path)
    assert done.stdout.strip() == WORKS, done.stderr
    assert json.loads(config.read_text())["epsilon"] == 1e-5


def test_keras_first_on_jax(tmp_path):
    done = run("import keras" + USE, tmp_path, KERAS_BACKEND="jax")
    assert done.stdout.strip() == WORKS, done.stderr


def test_another_backend_then_set_backend(tmp_path):
    code = "import keras; keras.config.set_backend('jax'); import keras"
    done = run(code + USE, tmp_path, KERAS_BACKEND="numpy")
    assert done.stdout.strip() == WORKS, done.stderr


def test_import_set_backend_import_again_and_stale_objects_say_so(tmp_path):
    code = (
        "import keras, keras_jax_ext as old; import numpy as np\n"
        "class Old(old.Model):\n"
        "    def call(self, x): return old.layers.Dense(2)(x)\n"
        "stale, x = Old(), np.ones((1, 3), 'float32'); stale(x)\n"
        "keras.config.set_backend('jax')\n"
        "import keras"
    )
    after = (
        "for use in (lambda: stale(x), lambda: old.layers.Dense(2), Old,"
        " lambda: stale.compile('sgd', 'mse'), lambda: stale.predict(x)):\n"
        "    try: use()\n"
        "    except RuntimeError as error: print('stale', error)\n"
    )
    done = run(code + USE + after, tmp_path, KERAS_BACKEND="jax")
    lines = done.stdout.strip().split("\n")
    assert lines[0] == WORKS, done.stderr
    assert len(lines) == 6
    assert all("before Keras was reloaded" in line for line in lines[1:])


@pytest.mark.parametrize("keras_first", [False, True])
def test_another_backend_is_an_error_that_names_both_fixes(
    tmp_path, keras_first
):
    code = "import keras\n" if keras_first else ""
    done = run(code + "import keras_jax_ext", tmp_path, KERAS_BACKEND="numpy")
    assert "ImportError: keras_jax_ext extends the JAX backend" in done.stderr
    assert "'numpy'" in done.stderr
    assert "KERAS_BACKEND=jax" in done.stderr
    assert 'keras.config.set_backend("jax")' in done.stderr


def test_an_old_keras_is_an_error_that_says_what_to_run(tmp_path):
    code = "import keras; keras.__version__ = '3.15.0'\nimport keras_jax_ext"
    done = run(code, tmp_path, KERAS_BACKEND="jax")
    assert "needs Keras 3.15.1 or newer" in done.stderr
    assert "pip install -U keras" in done.stderr


def test_the_import_brings_nothing_heavy(tmp_path):
    code = (
        "import sys, keras; before = set(sys.modules)\n"
        "import keras_jax_ext\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    done = run(code, tmp_path, KERAS_BACKEND="jax")
    assert done.stdout.strip() == "['keras_jax_ext']", done.stderr


NNX = """
import numpy as np, jax
from keras_jax_ext import layers
assert keras.config.is_nnx_enabled()
class Block(kje.Layer):
    def call(self, x):
        self.out = layers.Dense(3)
        return x + self.out(x)
class Net(kje.Model):
    def call(self, x):
        x = layers.Dropout(0.1)(Block()(x))
        scale = self.add_weight(name="scale", shape=(3,))
        return x * scale + jax.random.normal(self.next_rng_key(), x.shape)
x = np.ones((4, 3), "float32")
model = Net()
model.compile("sgd", "mse")
model.fit(x, x, epochs=2, verbose=0)
print(len(model.trainable_variables), [layer.name for layer in model.layers])
"""


def test_nnx_mode(tmp_path):
    pytest.importorskip("flax")
    code = "import keras_jax_ext as kje, keras\n" + NNX
    done = run(code, tmp_path, KERAS_NNX_ENABLED="true")
    assert done.stdout.strip() == "3 ['dropout', 'block']", done.stderr
