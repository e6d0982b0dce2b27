"""Several processes train one model as one process does."""

import os
import time

import keras_jax_ext as kje

import keras
import numpy as np
import pytest
from processes import Together
from together import BATCH, X_ROWS, Fresh, batches, make, rows, weights

# A process whose other has died ends within this: the heartbeat of the
# processes, and what JAX takes to see that it is missing.
SECONDS = 60


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of two processes finds."""
    return Together("all", tmp_path_factory.mktemp("together")).found()


def of_all(process_rows):
    """Batches of all processes, one after another, as one process reads."""
    for parts in zip(*(batches(*each) for each in process_rows), strict=True):
        yield tuple(
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )


@pytest.fixture(scope="module")
def alone():
    """What one process finds, from the data of both: stock Keras's."""
    fresh = Fresh(make(keras.Model))
    model = fresh()
    source = of_all([rows(0), rows(1)])
    options = {"steps_per_epoch": 4, "shuffle": False, "verbose": 0}
    history = model.fit(source, epochs=2, **options)
    return model, history.history


def assert_same(ours, expected, tolerance=1e-6):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("source", ["generator", "dataset"])
def test_processes_train_what_one_trains_alone(source, found, alone):
    model, expected = alone
    for process in found:
        history, values = process["shared"][source]
        assert history.keys() == expected.keys()
        assert_same(history.values(), expected.values())
        assert_same(values, weights(model))


def test_arrays_are_shuffled_and_dropped_as_in_stock(found):
    for process in found:
        history, values = process["shared"]["arrays"]
        expected, stock = process["stock"]
        assert {name: history[name] for name in expected} == expected
        assert values == stock


def test_processes_evaluate_and_predict_their_rows(found):
    model = make(keras.Model)
    shared = [process["shared"] for process in found]
    model.set_weights([np.array(w) for w in shared[0]["arrays"][1]])
    every = [np.concatenate(a) for a in zip(rows(0), rows(1), strict=True)]
    expected = model.evaluate(*every, batch_size=36, verbose=0)
    for me, process in enumerate(shared):
        assert_same(process["evaluated"], expected)
        predicted = model.predict(rows(me)[0], verbose=0)
        assert_same(process["predicted"], predicted)


def test_validation_is_of_all_rows(found):
    history, values = found[0]["shared"]["arrays"]
    assert history == found[1]["shared"]["arrays"][0]
    model = make(keras.Model)
    model.set_weights([np.array(w) for w in values])
    halves = [[a[: X_ROWS // 2] for a in rows(me)] for me in (0, 1)]
    every = [np.concatenate(a) for a in zip(*halves, strict=True)]
    expected = model.evaluate(*every, verbose=0)
    assert_same([history["val_loss"][1], history["val_mae"][1]], expected)


def test_no_step_has_more_collectives_than_keras_has(found):
    # One step in the loop, and one for the smaller batch behind it.
    for process in found:
        ours, stock = process["collectives"]["all-reduces"]
        assert process["collectives"]["tail"]
        assert ours == 2 * stock > 0
        assert process["collectives"]["others"] == [0, 0]


def test_a_callback_of_one_process_stops_all(found):
    for process in found:
        together = process["together"]
        assert together["stopped in an epoch"] == [[0, 1], 5 + 3]
        assert together["stopped after one"] == [[0, 1, 2], 8 + 15]


@pytest.mark.parametrize(
    ("kind", "steps"), [("failed", 10), ("failed in a hook", 8)]
)
def test_what_fails_in_one_process_fails_in_all(kind, steps, found):
    (other, *state), (error, *same) = (p["together"][kind] for p in found)
    assert error == ["RuntimeError", "one process fails"]
    assert other[0] == "ProcessError"
    assert "RuntimeError: one process fails' in process 1." in other[1]
    assert state == same
    assert state[0] == steps
    trained = [process["together"]["trained on"] for process in found]
    assert trained[0] == trained[1]


def test_a_source_fails_and_ends_in_all(found):
    (other, steps), (error, same) = (
        process["together"]["source failed"] for process in found
    )
    assert error[:2] == ["OSError", "no disk"]
    assert "OSError: no disk' in process 1" in other[1]
    assert steps == same == 6
    assert [p["together"]["ended early"] for p in found] == [5, 5]


def test_other_numbers_of_rows_are_an_error_before_a_step(found):
    for process in found:
        (name, text), steps = process["together"]["uneven"]
        assert name == "ValueError"
        assert "the same steps and rows in an epoch. Received: {" in text
        assert "'rows': 72, 'sets': None} in process 0" in text
        assert "'rows': 64, 'sets': None} in process 1" in text
        assert steps == 5


def test_an_interrupt_in_one_process_ends_all(found):
    (other, *state), (error, *same) = (p["interrupted"] for p in found)
    assert error[0] == "KeyboardInterrupt"
    assert "'KeyboardInterrupt: ' in process 1" in other[1]
    assert state == same


def test_one_process_writes_and_all_can_read(found):
    files = ["1.keras", "1.weights.h5", "2.keras", "2.weights.h5"]
    for process in found:
        saved = process["saved"]
        assert saved["2.keras"]
        assert saved["last.keras"]
        assert saved["last.weights.h5"]
        assert saved["files"] == [*files, "last.keras", "last.weights.h5"]
        assert saved["own"]
        assert not saved["kept"]
    first, other = (process["saved"]["failed"] for process in found)
    assert first[0] == "FileNotFoundError"
    assert other[0] == "OSError"
    assert "there FileNotFoundError: [Errno 2] No such file" in other[1]


@pytest.mark.parametrize("when", ["after an epoch", "in an epoch"])
def test_all_processes_go_on_from_their_backups(when, found):
    errors = [process["resumed"][when][0] for process in found]
    assert errors == ["ProcessError", "RuntimeError"]
    assert [process["resumed"][when][1] for process in found] == [True, True]


def test_a_notice_to_one_process_ends_all_with_a_backup(found):
    for process in found:
        terminated = process["resumed"]["terminated"]
        assert terminated == [["SystemExit", "143"], True]


def test_backups_that_do_not_fit_are_an_error(found):
    for process in found:
        name, text = process["resumed"]["damaged"]
        assert "as many processes as before, each with its own backups" in text
        assert "[[1, 2], []]" in text
        name, text = process["resumed"]["in one"]
        assert name == "ValueError"
        assert "Received: 0 in process 0, 1 in process 1" in text


def test_weights_are_cut_between_processes(found):
    model = make()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    history = model.fit(*rows(0), epochs=3, **options)
    for process in found:
        cut = process["cut"]
        assert cut["shard"] == [4, 4]
        assert "one process fails" in cut["error"][1]
        assert_same(cut["history"].values(), history.history.values(), 1e-5)
        assert_same(cut["weights"], weights(model), 1e-5)
        predicted = model.predict(rows(0)[0], verbose=0)
        assert_same(cut["predicted"], predicted, 1e-5)


def test_a_killed_process_ends_the_other_and_both_go_on(found, tmp_path):
    both = Together("train", tmp_path)
    survivor, victim = both.each
    for line in victim.stdout:
        if line.startswith("epoch 1"):
            break
    time.sleep(0.03)
    victim.kill()
    victim.communicate()
    killed = time.monotonic()
    output = survivor.communicate(timeout=SECONDS)[0]
    assert time.monotonic() - killed < SECONDS
    assert survivor.returncode != 0
    if "survived:" in output:
        assert "survived:  True" in output
        assert "`kje.callbacks.BackupAndRestore` in each of them" in output
    else:  # It waited for the other's word, and not for its gradients.
        assert "JAX distributed service detected fatal errors" in output
    again = Together("train", tmp_path).found()
    assert again == [process["resumed"]["long"] for process in found]
    assert os.listdir(tmp_path) == []


def test_one_process_reads_no_backups_of_several(tmp_path):
    folder = tmp_path / "process-0"
    folder.mkdir()
    (folder / "backup-00000001.zip").touch()
    model = make()
    backup = kje.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(ValueError, match=r"zip in 1 of them\. Start as"):
        model.fit(*rows(0), callbacks=[backup], verbose=0)
