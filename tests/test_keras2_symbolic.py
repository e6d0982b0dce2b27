"""Functions of arrays in functional models: as on arrays, and in files."""

import keras_jax_ext as kje
from keras_jax_ext import keras2

import jax.numpy as jnp
import keras
import numpy as np
import pytest

X = np.arange(24, dtype="float32").reshape(2, 3, 4)
FUNCTIONS = {
    "slice": lambda x: keras2.slice(x, [0, 1, 0], [-1, 2, 2]),
    "sequence_mask": lambda x: keras2.sequence_mask(x[:, 0], maxlen=5),
    "gather_nd": lambda x: keras2.gather_nd(x, jnp.array([[0, 1], [1, 2]])),
    "boolean_mask": lambda x: keras2.boolean_mask(x, [True, False, True], 1),
    "svd": lambda x: keras2.svd(x, compute_uv=False),
    "scatter_nd": lambda x: keras2.scatter_nd([[0], [2]], x[0, :2], (4, 4)),
    "split": lambda x: keras2.split(x, [1, -1], axis=1)[1],
    "pad": lambda x: keras2.pad(x, [[0, 0], [1, 1], [0, 0]], "REFLECT"),
    "band_part": lambda x: keras2.band_part(x, -1, 0),
    "clip_by_norm": lambda x: keras2.clip_by_norm(x, 1.0),
    "l2_normalize": lambda x: keras2.l2_normalize(x, axis=-1),
    "top_k": lambda x: keras2.top_k(x, 2).values,
    "batch_flatten": keras2.batch_flatten,
    "matrix_transpose": keras2.matrix_transpose,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functional_model_computes_what_arrays_give(name, tmp_path):
    function = FUNCTIONS[name]
    inputs = keras.Input(batch_shape=X.shape)
    model = kje.Model(inputs, function(inputs))
    expected = np.asarray(function(X))
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = kje.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(X), expected, rtol=1e-5, atol=1e-5)
