"""Datasets of Grain with the methods of `tf.data`; ported scripts use them."""

try:
    import grain as grain
except ImportError as error:
    raise ModuleNotFoundError(
        "`kje.data` is made of Grain. Received: no package `grain`. Install "
        "it: `pip install grain`.",
        name="grain",
    ) from error

from keras_jax_ext.data.dataset import Dataset
from keras_jax_ext.data.folders import image_dataset_from_directory

__all__ = ["Dataset", "image_dataset_from_directory"]
