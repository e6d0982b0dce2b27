"""Every example runs, quickly, and draws; so does README's."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the examples draw")
pytest.importorskip("sklearn", reason="the examples use its data")

ROOT = Path(__file__).parent.parent


def load(name):
    """The module of an example."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dataset", ["article", "iris"])
def test_mixture_density(dataset, tmp_path, capsys):
    history = load("mixture_density").main(
        ["--dataset", dataset, "--quick", "--out", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    assert history["loss"][-1] < history["loss"][0]
    assert "mixture_model/component_4/kernel" in printed
    assert len(list(tmp_path.glob(f"mixture_density_{dataset}_*.png"))) == 3


def test_lbfgs(tmp_path, capsys):
    load("lbfgs").main(["--quick", "--out", str(tmp_path)])
    found = re.findall(r"loss ([0-9.e+-]+)", capsys.readouterr().out)
    lbfgs, adam = map(float, found)
    assert lbfgs < adam
    assert (tmp_path / "lbfgs.png").exists()


def test_error_band(tmp_path):
    near, far = load("error_band").main(["--quick", "--out", str(tmp_path)])
    assert 0 < near < 0.1 < far
    assert (tmp_path / "error_band.png").exists()


def test_gan(tmp_path):
    history = load("gan").main(["--quick", "--out", str(tmp_path)])
    assert history["critic_loss/distance"][-1] < 0
    assert np.isfinite(history["generator_loss"]).all()
    assert (tmp_path / "gan.png").exists()


def test_burgers(tmp_path, capsys):
    example = load("burgers")
    error = example.main(["--quick", "--out", str(tmp_path)])
    found = re.findall(r"loss ([0-9.e+-]+)", capsys.readouterr().out)
    adam, *_, lbfgs = map(float, found)
    assert lbfgs < adam
    assert error < 0.7
    assert (tmp_path / "burgers.png").exists()


def test_the_exact_solution_of_burgers_equation_solves_it():
    exact, nu = load("burgers").exact, 0.01 / np.pi
    x, t = np.meshgrid(np.linspace(-0.9, 0.9, 7), np.linspace(0.1, 0.9, 5))
    h = 1e-4
    u_t = (exact(x, t + h) - exact(x, t - h)) / (2 * h)
    u_x = (exact(x + h, t) - exact(x - h, t)) / (2 * h)
    u_xx = (exact(x + h, t) - 2 * exact(x, t) + exact(x - h, t)) / h**2
    residual = u_t + exact(x, t) * u_x - nu * u_xx
    # The middle of the shock is left out, where differences are rough.
    assert np.abs(residual[:, np.abs(x[0]) > 0.1]).max() < 1e-3
    np.testing.assert_allclose(
        exact(x, 1e-6 + 0 * t), -np.sin(np.pi * x), atol=1e-4
    )


def test_ensemble(tmp_path):
    near, far = load("ensemble").main(
        ["--quick", "--members", "8", "--out", str(tmp_path)]
    )
    assert 0 < near < far
    assert (tmp_path / "ensemble.png").exists()


def test_fine_tuning(tmp_path, capsys):
    load("fine_tuning").main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "the frozen stem is unchanged: True" in printed
    first, last = map(float, re.findall(r"(0\.\d+) (?:after|in)", printed))
    assert last > first
    assert (tmp_path / "fine_tuning.png").exists()


def test_variational_autoencoder(tmp_path):
    history = load("variational_autoencoder").main(
        ["--quick", "--out", str(tmp_path)]
    )
    for prefix in ("", "val_"):
        parts = [
            np.array(history[f"{prefix}elbo_loss/{part}"])
            for part in ("reconstruction", "kl")
        ]
        np.testing.assert_allclose(sum(parts), history[f"{prefix}loss"], 1e-5)
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert (tmp_path / "variational_autoencoder.png").exists()


def test_multi_task(tmp_path):
    history = load("multi_task").main(["--quick", "--out", str(tmp_path)])
    assert history["val_class_accuracy"][-1] > 0.8
    assert history["val_ink_error"][-1] < history["val_ink_error"][0]
    assert (tmp_path / "multi_task.png").exists()


def test_the_example_of_the_readme_trains():
    readme = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    scope = {}
    exec(code.replace("epochs=5)", "epochs=5, verbose=0)"), scope)
    loss = scope["model"].history.history["loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < loss[0]


def test_digits(tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="the example writes its files")
    accuracy = load("digits").main(["--quick", "--out", str(tmp_path)])
    assert accuracy > 0.9  # of ten digits, after five epochs
    assert "tensorboard --logdir" in capsys.readouterr().out
    assert (tmp_path / "digits.png").exists()
    assert list(tmp_path.glob("digits_logs/train/events*"))


def test_characters(tmp_path, capsys):
    example = load("characters")
    loss, table = example.main(["--quick", "--out", str(tmp_path)])
    _, alphabet = example.manual(12_000)
    assert 0 < table < np.log(len(alphabet))
    assert 0 < loss < 0.95 * np.log(len(alphabet))
    written = capsys.readouterr().out.partition("\n")[2]
    assert len(written.partition("figure:")[0]) == 301
    assert (tmp_path / "characters.png").exists()


def test_ported(tmp_path):
    history = load("ported").main(["--quick", "--out", str(tmp_path)])
    assert history["val_loss"][-1] < 0.8
    assert 0 < history["openness"][-1] < 1
    assert (tmp_path / "ported.png").exists()
    assert (tmp_path / "ported.keras").exists()


def test_multi_process(tmp_path, capfd):
    arguments = ["--processes", "2", "--quick", "--out", str(tmp_path)]
    assert load("multi_process").main(arguments) == 0
    found = re.findall(
        r"loss ([0-9.]+), then ([0-9.]+)", capfd.readouterr().out
    )
    ((first, last),) = found
    assert float(last) < float(first) / 2
    assert (tmp_path / "multi_process.png").exists()
    assert (tmp_path / "multi_process.keras").exists()
    assert not (tmp_path / "backup").exists()


def test_the_tour_runs_cell_by_cell(tmp_path, monkeypatch, capsys):
    import matplotlib.pyplot as plt

    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text())
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code), "clear them: they rot"
    # No kernel: `__main__` is where a notebook's classes live.
    scope = {"__name__": "__main__"}
    for cell in code:
        exec("".join(cell["source"]), scope)
    plt.close("all")
    assert len(drawn) == 3
    loss = scope["history"].history["loss"]
    assert loss[-1] < loss[0] - 0.5
    printed = capsys.readouterr().out
    for ours, read in zip(
        scope["model"].weights, scope["loaded"].weights, strict=True
    ):
        np.testing.assert_array_equal(ours, read)
    assert "component_4 (Dense)" in printed
    assert "stock layer made in `call`" in printed
