"""JAX's transformations on Keras models."""

from keras_jax_ext.transforms.derivatives import derivative, derivatives
from keras_jax_ext.transforms.functional import Apply, assign, functional
from keras_jax_ext.transforms.gradients import value_and_grad

__all__ = [
    "Apply",
    "assign",
    "derivative",
    "derivatives",
    "functional",
    "value_and_grad",
]
