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
