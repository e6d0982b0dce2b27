"""Packages that people use with Keras, in an environment of their own.

`.ci/run` installs `requirements.txt` and runs these tests there; without it
they are not collected (`norecursedirs`). Nothing here reaches a network.
"""

import os

os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}

from keras_jax_ext._loop import execution

import pytest


@pytest.fixture
def loops(monkeypatch):
    """Every pass of a compiled loop: `(mode, most steps of an execution)`.

    A model that runs in Keras's own loop leaves none.
    """
    ran = []
    epoch = execution.Executor.epoch

    def noting(run, *args, **kwargs):
        last = epoch(run, *args, **kwargs)
        # At its end: a callback may have set its hooks when it began.
        ran.append((run.mode.name, run.agreed_most()))
        return last

    monkeypatch.setattr(execution.Executor, "epoch", noting)
    return ran
