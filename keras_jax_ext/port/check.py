"""Runs a script and its port side by side, where TensorFlow is installed."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from keras_jax_ext.port.findings import TODO, Finding, Ported

# Notes the loss of the first epoch of each `fit`, whichever Keras it is of.
_WATCH = """
import atexit, json, os, runpy, sys
losses = []
def watch(module):
    fit = module.Model.fit
    def watched(self, *args, **kwargs):
        history = fit(self, *args, **kwargs)
        losses.extend(history.history.get("loss", [])[:1])
        return history
    module.Model.fit = watched
def save():
    with open(os.environ["PORT_LOSSES"], "w") as file:
        json.dump([float(x) for x in losses], file)
atexit.register(save)
if os.environ.get("TF_USE_LEGACY_KERAS"):
    import tf_keras
    sys.modules.setdefault("keras", tf_keras)
    watch(tf_keras)
else:
    import keras_jax_ext
    watch(keras_jax_ext)
# The script has no arguments.
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
_FACTOR = 0.2  # other random numbers


def compare(source: Path, ported: Ported, data: bytes) -> Ported:
    """Run both, and say what differs.

    Args:
        source: The script.
        ported: What became of it.
        data: Its text, encoded.

    Returns:
        The same, with a finding for each difference. Of a script in which
        something is left, or nothing was to do, neither is run.
    """
    if ported.left or ported.note:
        return ported
    if source.suffix == ".ipynb":
        return _with(ported, "a notebook is not run", "save it as a script")
    missing = [
        name
        for name in ("tensorflow", "tf_keras")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        return _with(ported, f"no {missing[0]} to compare with", "install it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        path.write_bytes(data)
        first = _run(source, {"TF_USE_LEGACY_KERAS": "1"}, source.parent)
        second = _run(path, {"KERAS_BACKEND": "jax"}, source.parent)
    if first[0]:
        return _with(ported, f"the original fails: {first[1]}", "correct it")
    if second[0]:
        return _with(ported, f"the port fails: {second[1]}", "see its error")
    return _compared(ported, first[2], second[2])


def _compared(ported: Ported, first: list, second: list) -> Ported:
    if len(first) != len(second):
        text = f"{len(first)} calls of fit, {len(second)} in the port"
        return _with(ported, text, "compare the output")
    for place, (a, b) in enumerate(zip(first, second, strict=True), 1):
        if not math.isclose(a, b, rel_tol=_FACTOR, abs_tol=1e-3):
            text = f"first loss of fit {place}: {a:.4g}, in the port {b:.4g}"
            ported = _with(ported, text, "compare the output")
    return ported


def _run(path: Path, extra: dict[str, str], folder: Path):
    """The exit status, the last line of the errors, and the losses."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        env = {**os.environ, **extra, "PORT_LOSSES": file.name}
        done = subprocess.run(
            [sys.executable, "-c", _WATCH, str(path.resolve())],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        text = Path(file.name).read_text()
    lines = done.stderr.strip().splitlines() or [""]
    return done.returncode, lines[-1][:200], json.loads(text or "[]")


def _with(ported: Ported, text: str, recipe: str) -> Ported:
    finding = Finding(0, TODO, "--check", text, recipe)
    return ported._replace(findings=[*ported.findings, finding])
