"""Names that are left, with a reason and what to do by hand."""

_STRINGS = (
    "it works on strings, which need TensorFlow",
    "prepare them in Python, before the model",
)
_OF_STRINGS = (
    "TextVectorization",
    "StringLookup",
    "IntegerLookup",
    "Hashing",
    "HashedCrossing",
)
_OF_FILES = (
    "timeseries_dataset_from_array",
    "text_dataset_from_directory",
    "audio_dataset_from_directory",
)
_FILES = (
    "it makes a dataset of TensorFlow's",
    "read the files with Grain, or give arrays to `kje.data.Dataset`",
)
_DECODES = (
    "it reads and decodes by TensorFlow",
    "use Pillow and NumPy, in a Grain transformation",
)
_OF_BYTES = (
    "decode_png",
    "decode_jpeg",
    "decode_image",
    "decode_gif",
    "decode_bmp",
    "encode_png",
    "encode_jpeg",
)
_HAND = "a checkpoint of Orbax, or `model.save_weights` and `load_weights`"
# Beginning of a dotted name -> why it is left, and what to do.
LEFT = {
    "tensorflow.train.Checkpoint": (
        "TensorFlow's checkpoints hold any objects",
        f"use {_HAND}",
    ),
    "tensorflow.train.CheckpointManager": (
        "TensorFlow's checkpoints hold any objects",
        f"use {_HAND}",
    ),
    "tensorflow.train.latest_checkpoint": (
        "TensorFlow's checkpoints hold any objects",
        f"use {_HAND}",
    ),
    "tensorflow.train": (
        "it is of TensorFlow's own files and loops",
        "read the data with NumPy or Grain",
    ),
    "tensorflow.saved_model": (
        "a SavedModel needs TensorFlow",
        'use `model.save("name.keras")`, and `keras.models.load_model`',
    ),
    "tensorflow.summary": (
        "it writes TensorBoard's files by TensorFlow",
        "use `kje.callbacks.TensorBoard` in `fit`, or tensorboardX",
    ),
    "tensorflow.compat.v1": (
        "graphs and sessions of TensorFlow 1 run nowhere else",
        "write the step as a function of arrays",
    ),
    "tensorflow.distribute": (
        "strategies are TensorFlow's",
        "use `keras.distribution`, or jax.sharding",
    ),
    "tensorflow.feature_column": (
        "feature columns are TensorFlow's",
        "use Keras's preprocessing layers, or keras.utils.FeatureSpace",
    ),
    "tensorflow.estimator": ("estimators are gone", "use a Keras model"),
    "tensorflow.strings": (
        "JAX has no strings",
        "use Python's strings, outside the model",
    ),
    "tensorflow.io": (
        "it reads and decodes by TensorFlow",
        "use Python's files, NumPy, or Pillow in a Grain transformation",
    ),
    "tensorflow.lookup": (
        "tables of strings are TensorFlow's",
        "use a dict, or keras.layers.StringLookup before the model",
    ),
    "tensorflow.lite": ("TensorFlow Lite needs TensorFlow", "export by hand"),
    "tensorflow.RaggedTensor": (
        "JAX has no ragged arrays",
        "pad the rows, and mask them",
    ),
    "tensorflow.ragged": (
        "JAX has no ragged arrays",
        "pad the rows, and mask them",
    ),
    "tensorflow.sparse": (
        "sparse tensors differ",
        "use jax.experimental.sparse",
    ),
    "tensorflow.TensorArray": (
        "arrays are not written in place",
        "collect a list, and `keras.ops.stack` it, or use `jax.lax.scan`",
    ),
    "tensorflow.gradients": (
        "there is no graph",
        "use `kje.value_and_grad` or `jax.grad` of a function",
    ),
    "tensorflow.custom_gradient": (
        "the rules of a gradient are written otherwise",
        "use `keras.ops.custom_gradient` or `jax.custom_vjp`",
    ),
    "tensorflow.py_function": (
        "it calls Python from a graph",
        "call the function itself, or `jax.pure_callback`",
    ),
    "tensorflow.numpy_function": (
        "it calls Python from a graph",
        "call the function itself, or `jax.pure_callback`",
    ),
    "tensorflow.Session": ("there are no sessions", "call the function itself"),
    "tensorflow.placeholder": (
        "there is no graph",
        "give arrays to a function",
    ),
    "tensorflow.GradientTape": (
        "this use of a tape is none of the usual ones",
        "write the body as a function, and use `kje.value_and_grad`",
    ),
    "keras.wrappers.scikit_learn": (
        "the wrappers take a model now, not a function alone",
        "use `keras.wrappers.SKLearnClassifier` or `SKLearnRegressor`",
    ),
    "keras.backend.gradients": (
        "there is no graph",
        "use `kje.value_and_grad` or `jax.grad` of a function",
    ),
    "keras.backend.learning_phase": (
        "the mode is an argument",
        "give `training=` to `call`",
    ),
    "keras.backend.set_learning_phase": (
        "the mode is an argument",
        "give `training=` where a model is called",
    ),
    "keras.backend.placeholder": (
        "there is no graph",
        "give arrays to a function",
    ),
    "keras.backend.get_session": ("there are no sessions", "leave it out"),
    "keras.backend.set_session": ("there are no sessions", "leave it out"),
    "keras.backend.rnn": ("it loops over steps", "use `jax.lax.scan`"),
    "keras.layers.LocallyConnected1D": (
        "Keras 3 has no such layer",
        "write it with `keras.ops.extract_patches`",
    ),
    "keras.layers.LocallyConnected2D": (
        "Keras 3 has no such layer",
        "write it with `keras.ops.extract_patches`",
    ),
    "keras.layers.ThresholdedReLU": (
        "Keras 3 has no such layer",
        "use `keras.ops.where(x > theta, x, 0)`",
    ),
    **dict.fromkeys(map("tensorflow.image.{}".format, _OF_BYTES), _DECODES),
    **dict.fromkeys(map("keras.layers.{}".format, _OF_STRINGS), _STRINGS),
    **dict.fromkeys(map("keras.utils.{}".format, _OF_FILES), _FILES),
    **dict.fromkeys(map("keras.preprocessing.{}".format, _OF_FILES), _FILES),
    "keras.layers.DenseFeatures": (
        "feature columns are TensorFlow's",
        "use Keras's preprocessing layers",
    ),
    "keras.utils.multi_gpu_model": (
        "one model serves several devices",
        "use `keras.distribution.DataParallel`",
    ),
}
