"""One workflow with stock Keras and with ours, from the same seed."""

import keras
import numpy as np


def seeded(workflow, way):
    """The model and the figures of a workflow, from a fresh seed."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(5)
    model, figures = workflow(way)
    return model, [np.copy(w) for w in model.get_weights()], figures


def assert_as_stock(workflow, stock, ours, loops, modes=("train",)):
    """A workflow gives stock's weights and figures, and its loops are fused.

    Args:
        workflow: Function of a way to make models; returns the model and a
            structure of figures (losses, predictions) that are compared too.
        stock: The way of stock Keras, e.g. `keras.Model`.
        ours: Our way, e.g. `kje.Model` or `kje.extend`.
        loops: The fixture.
        modes: Names of the loops that must be fused, or `()` not to ask.

    Returns:
        Our model.
    """
    _, expected, figures = seeded(workflow, stock)
    assert loops == [], "stock Keras has no compiled loop"
    model, weights, own_figures = seeded(workflow, ours)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        own_figures,
        figures,
    )
    if modes:
        assert_fused(loops, modes)
    return model


def assert_fused(loops, modes=("train",)):
    """Each of these loops ran compiled, many steps at a time."""
    assert {name for name, _ in loops} == set(modes)
    assert all(most > 1 for _, most in loops), loops


def assert_single(loops, out, callback):
    """Training ran compiled, a step at a time, and said for whose sake.

    Args:
        loops: The fixture.
        out: String, what was printed.
        callback: String, the class whose batch hooks are not empty.
    """
    assert {most for name, most in loops if name == "train"} == {1}
    line = f"train: one step at a time, since {callback} acts on batches"
    assert line in " ".join(out.split())


def same(model):
    """Stock Keras's way beside `kje.extend`."""
    return model
