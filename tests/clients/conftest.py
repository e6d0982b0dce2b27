"""Packages that people use with Keras, in an environment of their own.

`.ci/run` installs `requirements.txt` and runs these tests there; without it
they are not collected (`norecursedirs`). Nothing here reaches a network.
"""

import os
import sys

os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}

from keras_jax_ext import _run

import pytest


@pytest.fixture
def loops(monkeypatch):
    """The compiled loops that ran: `(mode, chooses its steps)` of each.

    A model that runs in Keras's own loop leaves none. A loop that does not
    choose makes one step at a time, since a callback acts on batches.
    """
    ran = []
    enter = _run.Run.__enter__

    def noting(run):
        ran.append((run.mode.name, run.group == sys.maxsize))
        return enter(run)

    monkeypatch.setattr(_run.Run, "__enter__", noting)
    return ran
