"""A TensorBoard server and a browser show what the callback wrote."""

import contextlib
import re
import shutil
import subprocess
import sys

import keras_jax_ext as kje
from keras_jax_ext import layers

import numpy as np
import pytest

pytest.importorskip("tensorboard", reason="it serves the page")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None
)


@contextlib.contextmanager
def server(folder):
    """The address of a TensorBoard server of `folder`."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir"]
    process = subprocess.Popen(
        [*command, str(folder), "--port", "0", "--load_fast", "false"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stderr.readline, "")
        found = (re.search(r"at (http://\S+)", line) for line in lines)
        yield next(filter(None, found))[1]
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def browse(address, *options):
    """What headless Chromium prints about a page, when it has settled."""
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--window-size=1400,3000", "--virtual-time-budget=15000"]
    return subprocess.run(
        [*command, *options, address],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_a_browser_shows_the_training(tmp_path):
    from matplotlib import image

    class Net(kje.Model):
        def call(self, x):
            h = layers.Dense(4, name="hidden")(x)
            self.add_summary("hidden", h)
            return layers.Dense(1)(h)

    model = Net()
    model.compile("sgd", "mse")
    x = np.ones((8, 1), "float32")
    callback = kje.callbacks.TensorBoard(tmp_path / "logs", histogram_freq=1)
    model.fit(x, x, epochs=2, verbose=0, callbacks=[callback])
    picture = tmp_path / "page.png"
    with server(tmp_path / "logs") as address:
        page = browse(
            f"{address}#timeseries", "--dump-dom", f"--screenshot={picture}"
        )
    for tag in ("epoch_learning_rate", "epoch_loss", "net"):
        assert re.search(rf">\s*{tag}\s*<", page), tag
    pixels = (image.imread(picture)[..., :3] * 255).astype(int)
    orange = np.abs(pixels - [245, 124, 0]).sum(axis=-1) < 10
    assert orange[:60].mean() > 0.5  # TensorBoard's header
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
