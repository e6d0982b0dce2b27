"""Datasets of the files of a folder."""

from typing import Any

from keras_jax_ext.data.dataset import Dataset

import keras


def image_dataset_from_directory(directory: str, **kwargs: Any) -> Dataset:
    """Images of a folder and its subfolders, without TensorFlow.

    As `keras.utils.image_dataset_from_directory(format="grain")`, with the
    methods of `tf.data`. Files are read anew in each pass, in the same order.

    Example:

    ```python
    import pathlib

    for kind in ("cats", "dogs"):
        pathlib.Path("photos", kind).mkdir(parents=True)
        keras.utils.save_img(f"photos/{kind}/1.png", np.ones((8, 8, 3)))
    data = kje.data.image_dataset_from_directory("photos", image_size=(4, 4))
    assert data.class_names == ["cats", "dogs"]
    images, labels = next(iter(data))
    assert images.shape == (2, 4, 4, 3)
    ```

    Args:
        directory: String, the path of the folder.
        **kwargs: As those of Keras's function: `image_size`, `batch_size`,
            `label_mode`, `validation_split`, `subset`, `seed`...

    Returns:
        A dataset of images of shape `(batch, height, width, channels)`, with
        labels if there are any. It has the attribute `class_names`. With
        `subset="both"`, a pair of datasets.

    Raises:
        ValueError: As Keras's function.
    """
    found = keras.utils.image_dataset_from_directory(
        directory, **kwargs, format="grain"
    )
    if isinstance(found, (list, tuple)):
        return tuple(map(_dataset, found))  # type: ignore[return-value]
    return _dataset(found)


def _dataset(found):
    dataset = Dataset(lambda: iter(found))
    dataset.class_names = found.class_names
    return dataset
