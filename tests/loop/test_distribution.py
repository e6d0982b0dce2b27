"""Sharded over eight devices, the fused loop trains the same weights."""

import json

import numpy as np
import pytest
from processes import run_script


@pytest.fixture(scope="module")
def found():
    """The results of one process with eight devices."""
    return json.loads(run_script("distributed.py"))


def assert_same(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("data", ["from_arrays", "from_generator"])
@pytest.mark.parametrize("kind", ["data_parallel", "model_parallel"])
def test_devices_train_together_what_one_trains_alone(found, kind, data):
    ours, expected = found[kind][data], found["one_device"][data]
    assert ours["history"].keys() == expected["history"].keys()
    assert_same(ours["history"].values(), expected["history"].values())
    assert_same(ours["weights"], expected["weights"])


@pytest.mark.parametrize("kind", ["data_parallel", "model_parallel"])
def test_devices_evaluate_and_predict_what_one_does(found, kind):
    ours, expected = (found[k]["from_arrays"] for k in (kind, "one_device"))
    assert_same(ours["evaluated"], expected["evaluated"])
    assert len(ours["predicted"]) == 150
    assert_same(ours["predicted"], expected["predicted"])


@pytest.mark.parametrize("data", ["from_arrays", "from_generator"])
def test_weights_stay_where_the_layout_puts_them(found, data):
    # The kernel, then Adam's two moments of it, behind iterations and rate.
    kernels = [0, 3, 4]
    for kind, columns in [("data_parallel", 8), ("model_parallel", 4)]:
        assert found[kind][data]["devices"] == 8
        shards = found[kind][data]["shards"]
        assert [shards[i] for i in kernels] == [[4, columns]] * 3
    assert found["one_device"][data]["devices"] == 1


@pytest.mark.parametrize("kind", ["data_parallel", "model_parallel"])
def test_inline_layers_whole_output_losses_and_optax_are_shared(found, kind):
    ours, expected = found[kind]["pair"], found["one_device"]["pair"]
    assert ours["devices"] == 8
    assert_same(ours["history"].values(), expected["history"].values())
    assert_same(ours["weights"], expected["weights"])


@pytest.mark.parametrize("model", ["from_arrays", "pair"])
def test_a_device_holds_its_share_of_the_optimizer(found, model):
    whole = found["one_device"][model]["all_bytes"]
    assert found["data_parallel"][model]["bytes"] == whole
    # Half of two moments of a kernel of 4 x 8.
    assert found["model_parallel"][model]["bytes"] == whole - 4 * 8 * 4


@pytest.mark.parametrize("kind", ["data_parallel", "model_parallel"])
def test_a_device_needs_its_share_and_gradients_of_it(found, kind):
    memory, one = found[kind]["memory"], found["one_device"]["memory"]
    half = kind == "model_parallel"
    assert memory["state"] < one["state"] * (0.51 if half else 1.01)
    # The state is given away, and the rest are the rows.
    assert memory["aliased"] >= memory["state"]
    assert memory["arguments"] < memory["state"] + 32 * 512 * 4 + 2000
    # Weights and two moments of them are the state: two gradients beside it.
    assert memory["temporary"] < memory["state"] * 2 / 3 * 1.05


def test_no_device_ever_holds_a_whole_weight(found):
    most, share = found["largest"]
    assert most == share


@pytest.mark.parametrize("kind", ["data_parallel", "model_parallel"])
def test_training_on_many_devices_goes_on_bit_for_bit(found, kind):
    assert found["resumed"][kind]


@pytest.mark.parametrize(
    ("name", "devices"), [("one", 1), ("four", 4), ("eight", 8)]
)
def test_files_of_eight_devices_load_on_others(found, name, devices):
    loaded = found["loaded"][name]
    assert loaded == {"same": [True] * 3, "devices": devices}


def test_a_summary_of_a_model_that_devices_share(found):
    assert "wide (Dense)" in found["summary"]
