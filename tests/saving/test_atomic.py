"""A file is old or new, whatever happens while it is written."""

import os
import signal
import stat
import subprocess
import sys
import time

import keras_jax_ext as kje

import keras
import numpy as np
import pytest

ENDINGS = ["model.keras", "model.weights.h5", "model.h5"]


class Failing(keras.layers.Layer):
    """Cannot be written while `fails`."""

    fails = False

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],))

    def call(self, x):
        return x * self.scale

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if Failing.fails:
            raise RuntimeError("no more")

    def get_config(self):
        if Failing.fails:
            raise RuntimeError("no more")
        return super().get_config()


def model():
    return kje.Sequential([keras.Input((3,)), Failing(), keras.layers.Dense(2)])


def write(model, path):
    weights = str(path).endswith(".weights.h5")
    (model.save_weights if weights else model.save)(path)


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_the_folder_as_it_was(
    name, exists, tmp_path, monkeypatch
):
    path, made = tmp_path / name, model()
    if exists:
        write(made, path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(Failing, "fails", True)
    with pytest.raises(RuntimeError, match="no more"):
        write(made, path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert len(before) == exists


@pytest.mark.parametrize("name", ENDINGS)
def test_a_file_keeps_its_link_and_its_mode(name, tmp_path):
    (tmp_path / "inner").mkdir()
    target, link = tmp_path / "inner" / name, tmp_path / name
    link.symlink_to(target)
    made = model()
    write(made, link)
    target.chmod(0o640)
    first = target.read_bytes()
    made.weights[0].assign(made.weights[0] + 1)
    write(made, link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.read_bytes() != first
    assert [p.name for p in target.parent.iterdir()] == [name]


def test_weights_are_those_that_keras_writes(tmp_path):
    made = model()
    made.compile("adam", "mse")
    made.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    made.save_weights(tmp_path / "ours.weights.h5")
    keras.Model.save_weights(made, tmp_path / "stock.weights.h5")
    values = [v.numpy() for v in made.variables]
    for name in ("ours", "stock"):
        other = model()
        other.compile("adam", "mse")
        other.optimizer.build(other.trainable_variables)
        other.load_weights(tmp_path / f"{name}.weights.h5")
        for value, variable in zip(values, other.variables, strict=True):
            np.testing.assert_array_equal(value, variable.numpy())
        assert int(other.optimizer.iterations) == 1


def test_a_name_that_keras_refuses_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in `.weights.h5`"):
        model().save_weights(tmp_path / "model.h5")
    assert not [*tmp_path.iterdir()]


SAVES = """
import resource, signal, sys
import keras_jax_ext as kje, keras, numpy as np
model = kje.Sequential([keras.Input((8,)), keras.layers.Dense(2000)])
name, limit = sys.argv[1], int(sys.argv[2])
write = model.save_weights if "weights" in name else model.save
write(name)
print("saved", flush=True)
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write(name)
    except OSError as error:
        print("refused", error.errno, flush=True)
else:
    while True:
        write(name)
"""


def reads(folder, name):
    made = kje.Sequential([keras.Input((8,)), keras.layers.Dense(2000)])
    made.load_weights(folder / name)


@pytest.mark.parametrize("name", ENDINGS[:2])
def test_on_a_full_disk_the_old_file_stays(name, tmp_path):
    if sys.platform == "win32":
        pytest.skip("limits are those of POSIX")
    done = subprocess.run(
        [sys.executable, "-c", SAVES, name, "20000"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["saved", "refused", "27"]
    reads(tmp_path, name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ENDINGS[:2])
def test_a_killed_process_leaves_a_whole_file(name, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES, name, "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    waits = np.random.default_rng(0).uniform(0, 0.02, 12)
    for wait in waits:
        # Stopped at any instant, as a kill would stop it.
        time.sleep(wait)
        process.send_signal(signal.SIGSTOP)
        reads(tmp_path, name)
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    process.stdout.close()
    reads(tmp_path, name)


def test_a_checkpoint_is_written_so(tmp_path, monkeypatch):
    path = tmp_path / "best.keras"
    made = model()
    made.compile("sgd", "mse")
    saver = keras.callbacks.ModelCheckpoint(path, monitor="loss")
    x, y = np.ones((4, 3)), np.ones((4, 2))
    made.fit(x, y, verbose=0, callbacks=[saver])
    before = path.read_bytes()
    monkeypatch.setattr(Failing, "fails", True)
    with pytest.raises(RuntimeError, match="no more"):
        made.fit(x, y, verbose=0, callbacks=[saver])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["best.keras"]


def save_folder(made, folder):
    made.save(folder / "model", zipped=False)


def save_shards(made, folder):
    made.save_weights(folder / "a.weights.json", max_shard_size=1e-7)


READ = {
    "folder": lambda _, folder: keras.saving.load_model(folder / "model"),
    "shards": lambda made, f: made.load_weights(f / "a.weights.json"),
}
SEVERAL = {"folder": save_folder, "shards": save_shards}


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_failure_leaves_several_files_as_they_were(
    kind, tmp_path, monkeypatch
):
    made = model()
    SEVERAL[kind](made, tmp_path)
    before = tree(tmp_path)
    assert len(before) >= 2
    made.weights[0].assign(made.weights[0] + 1)
    monkeypatch.setattr(Failing, "fails", True)
    with pytest.raises(RuntimeError, match="no more"):
        SEVERAL[kind](made, tmp_path)
    assert tree(tmp_path) == before
    monkeypatch.setattr(Failing, "fails", False)
    SEVERAL[kind](made, tmp_path)
    assert tree(tmp_path).keys() == before.keys()
    assert tree(tmp_path) != before


@pytest.mark.parametrize("kind", SEVERAL)
def test_what_is_stopped_between_several_files_is_not_read(
    kind, tmp_path, monkeypatch
):
    made = model()
    SEVERAL[kind](made, tmp_path)
    replace, moved = os.replace, []

    def stop_at_the_second(*paths):
        if moved:
            raise KeyboardInterrupt
        moved.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        SEVERAL[kind](made, tmp_path)
    with pytest.raises((OSError, ValueError), match=r"No such file|supported"):
        READ[kind](made, tmp_path)
