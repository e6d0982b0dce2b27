"""Training that was killed ends as one that was not, bit for bit."""

import datetime
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras_jax_ext as kje
from keras_jax_ext._disk import archive
from keras_jax_ext._loop.memo import memo

import jax
import keras
import numpy as np
import pytest
from tests.callbacks.killed import EPOCHS, result

SCRIPT = Path(__file__).with_name("killed.py")
X = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")
Y = X[:, :1] * X[:, 1:2]
EACH = datetime.timedelta(0)


class Die(keras.callbacks.Callback):
    """Ends training where a kill would."""

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.at == (epoch, None):
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        if self.at == (self.epoch, batch):
            raise KeyboardInterrupt


def make(cls=kje.Model, **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    h = keras.layers.Dropout(0.3)(keras.layers.Dense(5)(inputs))
    model = cls(inputs, keras.layers.Dense(1)(h))
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def fit(model, *callbacks, data=(X, Y), epochs=4, **options):
    options = {"batch_size": 8, "verbose": 0, **options}
    given = [*callbacks]
    return model.fit(*data, epochs=epochs, callbacks=given, **options)


def state(model, history):
    groups = model.variables, model.optimizer.variables
    values = [np.asarray(v) for group in groups for v in group]
    stream = np.random.get_state()[1].tolist()
    return values, history.history, history.epoch, stream


def assert_same(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1:] == other[1:]


def backup(folder, save_freq="epoch", **options):
    return kje.callbacks.BackupAndRestore(folder / "b", save_freq, **options)


def resumed(tmp_path, die, save_freq="epoch", between=lambda: None, **options):
    """Interrupt a training, and go on in another model."""
    with pytest.raises(KeyboardInterrupt):
        fit(make(), backup(tmp_path, save_freq), die, **options)
    between()
    model = make()
    np.random.seed(7)  # as in another process
    random.seed(7)
    kept = backup(tmp_path, save_freq)
    return model, fit(model, kept, Die(None), **options)


def started(folder, save_freq, script=SCRIPT, until=0):
    """A process that has ended an epoch, or all."""
    process = subprocess.Popen(
        [sys.executable, script, folder, save_freq],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["epoch"] and int(words[1]) >= until:
            break
    return process


def finished(folder, save_freq, script=SCRIPT):
    process = started(folder, save_freq, script)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return result(folder)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("unkilled"), "epoch")


@pytest.mark.parametrize(
    ("save_freq", "kills"), [("epoch", 4), ("40", 3), ("1s", 3)]
)
def test_a_killed_process_ends_as_if_it_had_not_been(
    save_freq, kills, unkilled, tmp_path
):
    waits = np.random.default_rng(kills)
    for kill in range(kills):
        until = waits.integers(EPOCHS // kills) + kill * EPOCHS // kills
        process = started(tmp_path, save_freq, until=until)
        time.sleep(waits.uniform(0, 0.05))
        process.kill()
        process.communicate()
    assert finished(tmp_path, save_freq) == unkilled
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("save_freq", ["epoch", 5, EACH])
@pytest.mark.parametrize("die", [Die(1), Die(2, 5)], ids=["between", "within"])
def test_it_goes_on_between_epochs_and_within(save_freq, die, tmp_path):
    model = make()
    expected = state(model, fit(model, Die(None)))
    assert_same(state(*resumed(tmp_path, die, save_freq)), expected)


@pytest.mark.parametrize(("steps", "epochs"), [(5, 2), (17, 3)])
def test_it_goes_on_where_an_epoch_is_no_pass(steps, epochs, tmp_path):
    options = {"steps_per_epoch": steps, "epochs": epochs}
    if epochs * steps > 12:
        options["data"] = (Numbered(60),)
    model = make()
    expected = state(model, fit(model, Die(None), **options))
    found = resumed(tmp_path, Die(1, 3), EACH, **options)
    assert_same(state(*found), expected)


def test_it_goes_on_within_points(tmp_path):
    def residual(x, apply):
        return {"a": apply(x["a"]) ** 2, "b": (apply(x["b"]) - 1) ** 2}

    def train(*callbacks, **options):
        model = make()
        model.compile("adam", residual)
        points = kje.Points(a=X, b=X[:20], steps=30, **options)
        data = (points,)
        given = {"data": data, "batch_size": None, "shuffle": False}
        return model, fit(model, *callbacks, **given)

    expected = state(*train(Die(None)))
    with pytest.raises(KeyboardInterrupt):
        train(backup(tmp_path, EACH), Die(2, 9))
    assert_same(state(*train(backup(tmp_path, EACH), Die(None))), expected)


def test_it_goes_on_within_points_that_are_resampled(tmp_path):
    def train(*callbacks):
        model = make()
        model.compile("adam", lambda x, apply: apply(x["a"]) ** 2)
        own = np.random.default_rng(3)

        def resample(epoch):
            rows = own.integers(0, len(X), 20) + np.random.randint(2)
            return {"a": X[rows % len(X)]}

        points = kje.Points(a=X[:20], steps=9, resample=resample)
        given = {"data": (points,), "batch_size": None, "shuffle": False}
        return model, fit(model, *callbacks, **given)

    with pytest.raises(ValueError, match=r"`Points` that are.*replay=True"):
        train(backup(tmp_path))
    expected = state(*train(Die(None)))
    for die in (Die(1), Die(2, 4)):
        kept = [backup(tmp_path, EACH, replay=True) for _ in range(2)]
        with pytest.raises(KeyboardInterrupt):
            train(kept[0], die)
        assert_same(state(*train(kept[1], Die(None))), expected)


class DieBetween(keras.callbacks.Callback):
    """Ends training where a kill would, and does not act on batches."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("shuffle", "die"), [(True, Die(1, 5)), ("member", DieBetween())]
)
def test_an_ensemble_goes_on(shuffle, die, tmp_path):
    def train(*callbacks):
        keras.utils.set_random_seed(5)
        ensemble = kje.Ensemble(lambda: make(), 3)
        ensemble.compile("adam", "mse", steps_per_execution=3)
        return ensemble, fit(ensemble, *callbacks, shuffle=shuffle)

    idle = keras.callbacks.LambdaCallback()
    ensemble, history = train(idle)
    with pytest.raises(KeyboardInterrupt):
        train(backup(tmp_path, EACH), die)
    again, found = train(backup(tmp_path, EACH), idle)
    assert_same(state(again, found), state(ensemble, history))
    for name, values in history.members.items():
        np.testing.assert_array_equal(found.members[name], values)


class At(kje.callbacks.BackupAndRestore):
    """Keeps one snapshot, after so many executions."""

    def __init__(self, folder, executions):
        super().__init__(folder / "b", delete_checkpoint=False)
        self.left = executions

    def is_due(self, steps, at_end):
        self.left -= 1
        return self.left == 0


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("executions", [1, 4, 7])
@pytest.mark.parametrize("acts", [False, True], ids=["reads", "acts"])
def test_it_goes_on_with_a_callback_that_acts_on_no_batch(
    acts, executions, frozen, tmp_path
):
    # Arrays that a callback may change are read batch by batch; those that
    # nobody can change are not, and as many go together as in one execution.
    idle = keras.callbacks.LambdaCallback()
    data = (jax.numpy.array(X), jax.numpy.array(Y)) if frozen else (X, Y)

    def train(*callbacks, steps):
        model = make(steps_per_execution=steps)
        return model, fit(model, *callbacks, data=data)

    expected = state(*train(idle, steps=3))
    train(At(tmp_path, executions), Die(None) if acts else idle, steps=1)
    assert_same(state(*train(At(tmp_path, 0), idle, steps=3)), expected)


def test_a_callback_that_acts_on_batches_comes_between_epochs(tmp_path):
    expected = state(*trained(Die(None)))
    idle = keras.callbacks.LambdaCallback()
    trained(At(tmp_path, 3), idle)
    with pytest.raises(ValueError, match="such arrays, and a backup from"):
        trained(At(tmp_path, 0), Die(None))
    (tmp_path / "b" / "backup-00000001.zip").unlink()
    trained(At(tmp_path, 12), idle)
    assert_same(state(*trained(At(tmp_path, 0), Die(None))), expected)


def trained(*callbacks):
    model = make(steps_per_execution=1)
    return model, fit(model, *callbacks)


class Numbered(keras.utils.PyDataset):
    """Batches that depend on their number; the last is smaller."""

    def __init__(self, batches=12, **options):
        super().__init__(**options)
        self.batches, self.asked = batches, []

    def __len__(self):
        return self.batches

    def __getitem__(self, i):
        self.asked.append(i)
        size = 8 if i < self.batches - 1 else 3
        rows = np.random.default_rng(i).integers(0, len(X), size)
        return X[rows], Y[rows]


class Own(Numbered):
    """Batches in an order of its own, of rows that it draws."""

    def __init__(self):
        super().__init__()
        self.random, self.order = np.random.RandomState(3), np.arange(12)

    def on_epoch_end(self):
        self.random.shuffle(self.order)

    def __getitem__(self, i):
        i = self.order[i]
        rows = self.random.randint(0, len(X), 8 if i < 11 else 3)
        return X[rows] + np.random.uniform(), Y[rows]


class Offered(Own):
    def get_state(self):
        return {"random": self.random.get_state(), "order": self.order}

    def set_state(self, state):
        self.random.set_state(state["random"])
        self.order = state["order"]


def grain_rows():
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(list(zip(X, Y, strict=True)))


def map_dataset():
    return grain_rows().seed(5).shuffle().repeat(3).batch(8)


def iter_dataset():
    experimental = pytest.importorskip("grain.experimental")
    rows = grain_rows().repeat(2).to_iter_dataset()
    shuffled = experimental.WindowShuffleIterDataset
    return shuffled(rows, window_size=16, seed=2).batch(8)


def loader():
    grain = pytest.importorskip("grain")
    sampler = grain.samplers.IndexSampler(
        len(X),
        shard_options=grain.sharding.NoSharding(),
        shuffle=True,
        num_epochs=9,
        seed=0,
    )
    return grain.DataLoader(
        data_source=list(zip(X, Y, strict=True)),
        sampler=sampler,
        operations=[grain.transforms.Batch(8)],
    )


def steps_kept(folder, steps):
    """The steps of the newest backup, of epochs of some steps."""
    _, document = archive.read(max(folder.iterdir()))
    return document["epoch"] * steps + document["step"]


# Grain says no length: Keras learns it from the first pass.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    ("source", "options"),
    [
        (Numbered, {}),
        (lambda: Numbered(60), {"steps_per_epoch": 7}),
        (Offered, {}),
        (map_dataset, {"steps_per_epoch": 8, "shuffle": False}),
        (iter_dataset, {"shuffle": False}),
        (loader, {"steps_per_epoch": 9, "shuffle": False}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_other_sources_go_on_where_they_were(source, options, tmp_path):
    given = {"batch_size": None, **options}

    def train(*callbacks, data):
        model = make()
        return model, fit(model, *callbacks, data=(data,), **given)

    expected = state(*train(Die(None), data=source()))
    for at in (Die(2), Die(2, 5)):
        with pytest.raises(KeyboardInterrupt):
            train(backup(tmp_path, EACH), at, data=source())
        np.random.seed(7)  # as in another process
        random.seed(7)
        data, taken = source(), steps_kept(tmp_path / "b", 12)
        found = train(backup(tmp_path, EACH), Die(None), data=data)
        assert_same(state(*found), expected)
        if source is Numbered:  # the first builds, and none is read again
            assert len(data.asked) == 1 + 48 - taken


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: (Numbered(workers=2),), r"a PyDataset of 2 workers.*these\.$"),
        (
            lambda: (Own(),),
            r"the PyDataset Own, which has its own on_epoch_end",
        ),
    ],
)
def test_data_that_begin_again_are_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit(make(), backup(tmp_path), data=data(), batch_size=None)


def test_validation_data_that_begin_again_are_refused(tmp_path):
    batches = ((X[:8], Y[:8]) for _ in range(99))
    for data, message in [
        (batches, r"a generator as validation data"),
        (Own(), r"the PyDataset Own, which.*as validation data"),
    ]:
        given = {"validation_data": data, "validation_steps": 2}
        with pytest.raises(ValueError, match=message):
            fit(make(), backup(tmp_path), **given)


def test_every_pass_is_read_again_where_that_is_asked_for(tmp_path):
    class Shuffled(Own):
        def __getitem__(self, i):
            return Numbered.__getitem__(self, self.order[i])

    def train(*callbacks):
        model = make()
        given = {"data": (Shuffled(),), "batch_size": None, "shuffle": False}
        return model, fit(model, *callbacks, **given)

    expected = state(*train(Die(None)))
    for die in (Die(2), Die(2, 5)):
        kept = [backup(tmp_path, EACH, replay=True) for _ in range(2)]
        with pytest.raises(KeyboardInterrupt):
            train(kept[0], die)
        assert_same(state(*train(kept[1], Die(None))), expected)


def test_a_generator_is_read_again_where_that_is_asked_for(tmp_path):
    def batches():
        for i in range(1000):
            yield X[i % 9 :: 9], Y[i % 9 :: 9]

    def options():
        return {
            "data": (batches(),),
            "steps_per_epoch": 7,
            "batch_size": None,
            "shuffle": False,
        }

    model = make()
    expected = state(model, fit(model, Die(None), **options()))
    refused = make()
    before = refused.get_weights()
    with pytest.raises(ValueError, match=r"other sources begin.*replay=True"):
        fit(refused, backup(tmp_path), **options())
    for a, b in zip(before, refused.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = backup(tmp_path, 3, replay=True)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), kept, Die(2, 4), **options())
    model = make()
    kept = backup(tmp_path, 3, replay=True)
    assert_same(
        state(model, fit(model, kept, Die(None), **options())), expected
    )


def test_time_and_steps_do_not_bring_fit_to_one_step(tmp_path):
    for save_freq in (40, datetime.timedelta(seconds=9)):
        model = make()
        fit(model, backup(tmp_path, save_freq), epochs=30)
        (pace,) = memo(model).paces.values()
        assert pace._most > 8


def test_two_backups_stay_and_the_newest_good_one_is_taken(tmp_path):
    def damage():
        old, new = sorted((tmp_path / "b").iterdir())
        assert (old.name, new.name) == (
            "backup-00000002.zip",
            "backup-00000003.zip",
        )
        content = bytearray(new.read_bytes())
        content[len(content) // 2] ^= 1
        new.write_bytes(content)

    model = make()
    expected = state(model, fit(model, Die(None)))
    assert_same(state(*resumed(tmp_path, Die(3), between=damage)), expected)


def test_backups_that_are_all_damaged_are_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(make(), backup(tmp_path), Die(2))
    for path in (tmp_path / "b").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"must be as it was written.*damaged"):
        fit(make(), backup(tmp_path))


def test_another_model_and_other_callbacks_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(make(), backup(tmp_path), Die(2))
    other = make()
    other.compile("sgd", "mse", metrics=["mae"])
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"'optimizer_variables/\d' has no pl"):
        fit(other, backup(tmp_path), Die(None))
    with pytest.raises(ValueError, match=r"goes on with the callbacks that"):
        fit(make(), backup(tmp_path))
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_refused_backup_leaves_no_handler_of_sigterm(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit(make(), backup(tmp_path), Die(2))
    with pytest.raises(ValueError, match=r"goes on with the callbacks that"):
        fit(make(), backup(tmp_path, save_before_preemption=True))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_is_a_warning_and_training_goes_on(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(UserWarning, match=r"goes on: .*No space left"):
        history = fit(make(), backup(tmp_path))
    assert len(history.epoch) == 4
    with pytest.raises(OSError, match="No space left"):
        fit(make(), backup(tmp_path, strict=True))
    assert not [*(tmp_path / "b").iterdir()]


def test_sigterm_saves_and_ends_with_143(unkilled, tmp_path):
    code = SCRIPT.read_text().replace(
        'folder / "backup", save_freq',
        'folder / "backup", save_freq, save_before_preemption=True',
    )
    script = tmp_path / "terminated.py"
    script.write_text(code)
    folder = tmp_path / "run"
    folder.mkdir()
    process = started(folder, "10000000", script, until=EPOCHS // 4)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    assert len(os.listdir(folder / "backup")) == 1
    assert finished(folder, "10000000", script) == unkilled


@pytest.mark.parametrize(
    ("cls", "options"),
    [(keras.Model, {}), (kje.Model, {"jit_compile": False})],
    ids=["stock", "ours"],
)
@pytest.mark.parametrize("source", [None, Offered])
def test_keras_s_own_loop_goes_on_between_epochs(
    cls, options, source, tmp_path
):
    def train(*callbacks):
        model = make(cls, **options)
        # It knows by now that less is better, and has turned `min_delta`.
        slower = keras.callbacks.ReduceLROnPlateau(
            monitor="loss", patience=1, factor=0.5, min_delta=1
        )
        given = {"validation_split": 0.2}
        if source:
            given = {"data": (source(),), "batch_size": None}
        return model, fit(model, *callbacks, slower, **given)

    expected = state(*train(Die(None)))
    with pytest.raises(KeyboardInterrupt):
        train(backup(tmp_path), Die(2, 3))
    np.random.seed(7)  # as in another process
    random.seed(7)
    model, history = train(backup(tmp_path), Die(None))
    assert_same(state(model, history), expected)
    assert not (tmp_path / "b").exists()
    # Keras would begin at the epoch that a backup was of.
    assert fit(model, Die(None), epochs=1).epoch == [0]


def test_keras_s_own_loop_says_what_it_cannot(tmp_path):
    for options in (
        {"save_freq": 40},
        {"save_freq": EACH},
        {"save_before_preemption": True},
        {"replay": True},
    ):
        with pytest.raises(ValueError, match=r"backed up between two epochs"):
            fit(make(keras.Model), backup(tmp_path, **options))
    with pytest.raises(ValueError, match=r"epochs of 5 steps, which are no"):
        fit(make(run_eagerly=True), backup(tmp_path), steps_per_epoch=5)
    batches = ((X[:8], Y[:8]) for _ in range(99))
    given = {"batch_size": None, "shuffle": False, "steps_per_epoch": 5}
    with pytest.raises(ValueError, match=r"again. Received: a Generator"):
        fit(make(keras.Model), backup(tmp_path), data=(batches,), **given)
    callback = backup(tmp_path)
    callback.set_model(make())
    with pytest.raises(ValueError, match=r"whose `fit` is another one"):
        callback.on_train_begin()


@pytest.mark.parametrize("save_freq", [0, -1, True, 1.5, "batch", None])
def test_a_wrong_frequency_is_refused(save_freq, tmp_path):
    with pytest.raises(ValueError, match=r'is "epoch", a number of steps, or'):
        backup(tmp_path, save_freq)


def test_no_backup_is_made_without_a_notice(tmp_path):
    kept = backup(tmp_path, False, delete_checkpoint=False)
    fit(make(), kept)
    assert not (tmp_path / "b").exists()


def test_two_backups_of_one_training_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"One callback backs a `fit` up"):
        fit(make(), backup(tmp_path), backup(tmp_path))


def test_no_thread_is_left(tmp_path):
    before = threading.active_count()
    fit(make(), backup(tmp_path, EACH))
    with pytest.raises(KeyboardInterrupt):
        fit(make(), backup(tmp_path, EACH), Die(2))
    assert threading.active_count() == before
