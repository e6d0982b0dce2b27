"""`fit` is training for every layer, as where scripts are ported from.

Where `call` does not name `training`, Keras 2 (tf_keras) trains so, and no
backend of Keras 3 does. Where `call` names it and does not hand it on, Keras 3
trains so on TensorFlow, and not on JAX.
"""

import os
import pickle
import subprocess
import sys

import keras_jax_ext as kje

import keras
import modes
import numpy as np
import pytest
from beside_stock import assert_fused


def trained_by(module, folder):
    """What a package makes of the models on TensorFlow, in its own process."""
    path = folder / module
    done = subprocess.run(
        [sys.executable, modes.__file__, module, str(path)],
        # The second: parts of tf_keras look it up as `tf.keras`.
        env=os.environ
        | {"KERAS_BACKEND": "tensorflow"}
        | ({"TF_USE_LEGACY_KERAS": "1"} if module == "tf_keras" else {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return pickle.loads(path.read_bytes())


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    return {
        "unnamed": trained_by("tf_keras", folder),
        "named": trained_by("keras", folder),
    }


def inline(kind, named):
    def net(x):
        # The layers in the order of the others' constructor.
        h = modes.LAYERS[kind](kje.layers)(x)
        return kje.layers.Dense(1)(h)

    class Net(kje.Model):
        def call(self, x):
            return net(x)

    class Named(kje.Model):
        def call(self, x, training=False):
            return net(x)

    return Named() if named else Net()


def model(kind, named):
    return modes.subclassed(kind, named, keras.layers, kje.Model)


def extended(kind, named):
    stock = modes.subclassed(kind, named, keras.layers, keras.Model)
    return kje.extend(stock)


ways = pytest.mark.parametrize("way", [model, extended, inline])
signatures = pytest.mark.parametrize("signature", ["unnamed", "named"])


def handing_on(kind):
    """Stock Keras's model, on JAX, of which each call names the mode."""
    stock = type(modes.subclassed(kind, True, keras.layers, keras.Model))

    class Net(stock):
        def call(self, x, training=False):
            return self.outer(self.inner(x, training=training))

    return Net()


@ways
@signatures
@pytest.mark.parametrize(
    ("kind", "reference"),
    [("batch_normalization", "tensorflow"), (modes.ONLY_JAX, "handed on")],
)
def test_a_layer_comes_to_the_weights_of_the_reference(
    kind, reference, signature, way, on_tensorflow, loops
):
    if reference == "tensorflow":
        before, evaluated, losses, after = on_tensorflow[signature][kind]
    else:
        before, evaluated, losses, after = modes.figures(
            kind, handing_on(kind), keras.optimizers.SGD
        )
    ours = way(kind, signature == "named")
    _, own_evaluated, own_losses, weights = modes.figures(
        kind, ours, keras.optimizers.SGD, before
    )
    assert own_evaluated == pytest.approx(evaluated, rel=1e-4)
    assert own_losses == pytest.approx(losses, rel=1e-4)
    for group, others in zip(weights, after, strict=True):
        for a, b in zip(group, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert_fused(loops, ("train", "test"))


@ways
@signatures
@pytest.mark.parametrize("kind", ["dropout", "gaussian_noise", "lstm"])
def test_a_layer_draws_under_fit_alone(
    kind, signature, way, on_tensorflow, loops
):
    before, evaluated, losses, _ = on_tensorflow[signature][kind]
    keras.utils.set_random_seed(0)
    ours = way(kind, signature == "named")
    _, own_evaluated, own_losses, _ = modes.figures(
        kind, ours, keras.optimizers.SGD, before
    )
    assert own_evaluated == pytest.approx(evaluated, rel=1e-4)
    # Other numbers are drawn, in each epoch, and none in evaluation: without a
    # rate, losses that draw nothing agree to 1e-6. Both sides are seeded: a
    # draw that happens to come near stays away, or comes in every run.
    for first, second in (losses, own_losses):
        assert abs(first - evaluated) > 1e-5 * evaluated
        assert abs(first - second) > 1e-5 * evaluated
    assert_fused(loops, ("train", "test"))
