"""What Keras 2 computed under a name that Keras 3 gave another formula."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_jax_ext")
def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """`0.2 * x + 0.5`, cut to [0, 1]; in Keras 3 the slope is a sixth."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# The functions by their names in old files.
CHANGED = {"hard_sigmoid": hard_sigmoid_of_keras_2}
