"""Crossentropies as Keras 2 computed them."""

from keras_jax_ext._keras import logits


def crossentropy_of_logits(enabled: bool = True) -> None:
    """Compute crossentropies of what softmax and sigmoid were given.

    Keras 2 did, wherever a loss got their outputs, and trained models of data
    that are not scaled. It did so for `from_logits=True` and the outputs of
    `activation="softmax"`, too. On JAX, Keras 3 cuts probabilities at 1e-7:
    such a model gets no gradient, and stays as it is. It holds for every model
    of the process from now on. Outputs that are cast or changed before the loss
    are probabilities still, cut and scaled as Keras 2 did: its sparse loss cut
    first, so a last layer without an activation learned with it.

    Example:

    ```python
    kje.keras2.crossentropy_of_logits()
    chance = keras.activations.sigmoid(np.array([[-50.0]], "float32"))
    loss = keras.losses.binary_crossentropy(np.ones((1, 1)), chance)
    assert round(float(loss[0])) == 50  # and 15 of the probability
    kje.keras2.crossentropy_of_logits(False)
    ```

    Args:
        enabled: Boolean; `False` takes it back, for what is compiled later.
            Defaults to `True`.
    """
    logits.look_up(enabled)
