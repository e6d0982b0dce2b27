"""Every example in a public docstring runs."""

import importlib
import inspect
import re
from pathlib import Path

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

PACKAGE = Path(kje.__file__).parent
MODULES = sorted(
    ".".join(["keras_jax_ext", *path.relative_to(PACKAGE).parts])[:-3]
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)


def examples():
    """Each code block of each docstring, with the name of its owner."""
    for name in MODULES:
        module = importlib.import_module(name)
        for owner in vars(module).values():
            if getattr(owner, "__module__", None) != name:
                continue
            members = vars(owner).values() if inspect.isclass(owner) else ()
            for found in (owner, *members):
                # Not getdoc, which would bring in Keras's own docstrings.
                text = inspect.cleandoc(getattr(found, "__doc__", None) or "")
                blocks = re.findall(r"```python\n(.*?)```", text, re.S)
                for block in blocks:
                    yield pytest.param(block, id=found.__qualname__)


class ThirdPartyScale(keras.layers.Layer):
    """A stock layer of somebody else."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


class Block(kje.Layer):
    """What the examples call a block."""

    def __init__(self, units=4):
        super().__init__()
        self.units = units

    def call(self, x):
        return kje.layers.Dense(self.units)(x)


class MyLoss(kje.losses.Loss):
    """What the examples call a loss of theirs."""

    def call(self, y_true, y_pred):
        return jnp.mean((y_true - y_pred) ** 2, axis=-1)


@pytest.mark.parametrize("code", list(examples()))
def test_an_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples save files
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    scope = {
        "Block": Block,
        "MixtureNLL": MyLoss,
        "MyLoss": MyLoss,
        "ThirdPartyScale": ThirdPartyScale,
        "jax": jax,
        "jnp": jnp,
        "keras": keras,
        "kje": kje,
        "model": kje.extend(model),
        "np": np,
        "optax": optax,
        "optimizers": kje.optimizers,
        "x": np.ones((4, 3), "float32"),
        "y": np.ones((4, 1), "float32"),
    }
    exec(code, scope)
