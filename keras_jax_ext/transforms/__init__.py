"""JAX's transformations on Keras models."""

from keras_jax_ext.transforms.derivatives import derivative, derivatives
from keras_jax_ext.transforms.functional import Apply, assign, functional

__all__ = ["Apply", "assign", "derivative", "derivatives", "functional"]
