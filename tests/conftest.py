"""The JAX backend for the whole suite, seeds fixed for each test."""

import os

os.environ["KERAS_BACKEND"] = "jax"
# A configuration file of the person who runs the tests must not steer them.
os.environ.setdefault(
    "KERAS_HOME", os.path.join(os.path.dirname(__file__), ".keras")
)

import keras
import pytest


@pytest.fixture(autouse=True)
def clean_keras():
    """Fresh names, seeds and policies, whatever ran before."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def executions(monkeypatch):
    """How many steps each call of a compiled program runs."""
    from keras_jax_ext._loop.program import Program

    steps, call = [], Program.__call__

    def counting(self, state, span, *kept):
        steps.append(span.steps)
        return call(self, state, span, *kept)

    monkeypatch.setattr(Program, "__call__", counting)
    return steps
