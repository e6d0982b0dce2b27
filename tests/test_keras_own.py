"""Keras's own tests, which its wheel holds, pass with our models."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras_jax_ext  # noqa: F401 (first: selects the JAX backend)

import keras
import pytest

HERE = Path(__file__).parent
SOURCES = Path(keras.__file__).parent / "src"
GROUPS = [
    ["trainers/trainer_test"],
    ["models/model_test", "models/sequential_test"],
    ["models/functional_test", "models/cloning_test"],
    [
        "callbacks/backup_and_restore_test",
        "callbacks/callback_test",
        "callbacks/early_stopping_test",
        "callbacks/learning_rate_scheduler_test",
        "callbacks/model_checkpoint_test",
        "callbacks/reduce_lr_on_plateau_test",
        "callbacks/terminate_on_nan_test",
    ],
    ["saving/saving_lib_test"],
]
REPLACED = [
    (
        # The functional class is a private part of a Sequential model.
        r"from keras\.src\.models(\.model|\.sequential)? import",
        "from in_place_of_keras import",
    ),
    (
        r"from keras(\.src)? import models\b",
        "import in_place_of_keras as models",
    ),
    (
        r"import Functional\n(?=(.*\n)*class FunctionalTest)",
        r"import Functional\nfrom in_place_of_keras import Functional\n",
    ),
    (
        r"from keras\.src\.backend\.jax\.trainer import \w+ as Trainer",
        "from in_place_of_keras import Trainer",
    ),
    (r"\bkeras\.(Model|Sequential|models\.)", r"in_place_of_keras.k.\1"),
]
# What cannot pass with ours, and why.
EXCEPT = {
    # Ours names the layer and the shapes.
    "test_partial_load": "asks for the words of Keras's error",
    # Ours leaves the variables their values while a step runs.
    "fit_eval_flow_for_jax_model_weights": "asks for variables without values",
    # Stock Keras fails these too, from its wheel...
    "legacy_load_skips_missing_nested": "reads a file that is not in the wheel",
}
if importlib.util.find_spec("tensorflow") is None:
    # ...and without TensorFlow.
    EXCEPT |= {
        "remove_weights_only_saving": "copies with TensorFlow's file system",
        "disk_io_store_remote_working_dir": "reads TensorFlow's file system",
    }


def with_ours(source):
    """The text of a test module that imports our models."""
    for pattern, replacement in REPLACED:
        source = re.sub(pattern, replacement, source)
    return f"import in_place_of_keras\n{source}"


@pytest.mark.parametrize("modules", GROUPS, ids=lambda names: names[0])
def test_keras_tests_pass_with_our_models(modules, tmp_path):
    for module in modules:
        original = SOURCES / f"{module}.py"
        if not original.exists():
            pytest.skip("this Keras has no tests in its wheel")
        path = tmp_path / original.name
        path.write_text(with_ours(original.read_text()))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n0"),
            *("-p", "in_place_of_keras", "-p", "no:cacheprovider"),
            *("-W", "ignore", "-k", f"not ({' or '.join(EXCEPT)})"),
            *sorted(tmp_path.iterdir()),
        ],
        env=os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-8000:]
