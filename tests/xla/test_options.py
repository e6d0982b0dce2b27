"""XLA's compiler is given the options of the backend that it compiles for."""

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)
from keras_jax_ext._loop import device
from keras_jax_ext._loop.program import Program
from keras_jax_ext._xla import options

import jax
import pytest


@pytest.fixture
def asked_anew():
    options.compiler_options.cache_clear()
    yield options.compiler_options
    options.compiler_options.cache_clear()


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_this_xla_knows_the_options_of_a_backend(asked_anew, backend):
    assert len(asked_anew(backend)) == 1


def test_a_backend_without_options_has_none(asked_anew):
    assert asked_anew("tpu") == {}


def test_an_older_xla_is_given_no_options(asked_anew, monkeypatch):
    unknown = {"cpu": {"xla_of_the_future": True}}
    monkeypatch.setattr(options, "_BY_BACKEND", unknown)
    assert asked_anew("cpu") == {}


def test_what_the_user_has_set_is_left_alone(asked_anew, monkeypatch):
    flags = "--xla_gpu_enable_command_buffer="
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert asked_anew("gpu") == {}
    assert asked_anew("cpu") != {}


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_program_is_compiled_with_the_options_of_its_backend(
    monkeypatch, backend
):
    given = []
    jit = jax.jit

    def noting(function, **arguments):
        given.append(arguments.get("compiler_options"))
        return jit(function, **arguments)

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    expected = options.compiler_options(backend)
    monkeypatch.setattr(jax, "jit", noting)
    Program(lambda state, batch: ({}, state), place=device.place)
    assert given.count(expected) == 2
