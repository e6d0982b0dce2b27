"""tf_keras still writes the files that the tests of old files read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import old_models
import pytest

KINDS = Path(__file__).parent.parent / "old_files" / "old_kinds.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The files as they are kept, and as this tf_keras writes them."""
    kept = old_models.unpack(tmp_path_factory.mktemp("kept"))
    anew = tmp_path_factory.mktemp("anew")
    done = subprocess.run(
        [sys.executable, KINDS, anew], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return kept, anew


def test_every_model_computes_what_is_kept(folders):
    kept, anew = folders
    names = [path.name for path in kept.iterdir()]
    assert sorted(names) == sorted(path.name for path in anew.iterdir())
    for name in old_models.names(".npz"):
        known, now = (old_models.figures(f, name) for f in folders)
        assert known.keys() == now.keys()
        for key, value in known.items():
            np.testing.assert_allclose(
                value.astype("float64"),
                now[key].astype("float64"),
                rtol=1e-4,
                atol=1e-4,
                err_msg=f"{key} of {name}",
            )


def test_a_document_that_is_new_is_read_too(folders):
    kept, anew = folders
    changed = [
        name
        for name in old_models.names(".json")
        if name not in old_models.REFUSED
        and (kept / f"{name}.json").read_text()
        != (anew / f"{name}.json").read_text()
    ]
    # One at least, where none is new: what is written today is read.
    for name in [*changed, "dense"]:
        old_models.check_kind(anew, name)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")
def test_the_layers_of_tensorflow_compute_as_in_keras_2(folders):
    for name in old_models.WITH_TENSORFLOW:
        old_models.check_kind(folders[0], name)
