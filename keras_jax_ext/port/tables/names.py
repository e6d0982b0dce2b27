"""Names of Keras 2 that are found elsewhere, or nowhere, in Keras 3."""

# Dotted name of Keras 2 -> of what it is now. Checked by a test against the
# installed Keras and against this package.
MOVED = {
    "keras.Model": "keras_jax_ext.Model",
    "keras.Sequential": "keras_jax_ext.Sequential",
    "keras.models.Model": "keras_jax_ext.Model",
    "keras.models.Sequential": "keras_jax_ext.Sequential",
    "keras.engine.training.Model": "keras_jax_ext.Model",
    "keras.models.Input": "keras.Input",
    "keras.engine.Input": "keras.Input",
    "keras.engine.topology.Input": "keras.Input",
    "keras.engine.input_layer.Input": "keras.Input",
    # Ours read the files of Keras 2, too.
    "keras.models.load_model": "keras_jax_ext.models.load_model",
    "keras.models.model_from_json": "keras_jax_ext.keras2.model_from_json",
    "keras.engine.topology.Layer": "keras.layers.Layer",
    "keras.engine.base_layer.Layer": "keras.layers.Layer",
    "keras.engine.Layer": "keras.layers.Layer",
    "keras.engine.Model": "keras_jax_ext.Model",
    "keras.engine.topology.Model": "keras_jax_ext.Model",
    "keras.regularizers.l1l2": "keras.regularizers.l1_l2",
    "keras.regularizers.activity_l1": "keras.regularizers.l1",
    "keras.regularizers.activity_l2": "keras.regularizers.l2",
    "keras.regularizers.activity_l1l2": "keras.regularizers.l1_l2",
    "keras.constraints.maxnorm": "keras.constraints.MaxNorm",
    "keras.constraints.nonneg": "keras.constraints.NonNeg",
    "keras.constraints.unitnorm": "keras.constraints.UnitNorm",
    "keras.wrappers.scikit_learn.KerasClassifier": (
        "keras_jax_ext.keras2.KerasClassifier"
    ),
    "keras.wrappers.scikit_learn.KerasRegressor": (
        "keras_jax_ext.keras2.KerasRegressor"
    ),
    "keras.engine.InputSpec": "keras.layers.InputSpec",
    "keras.engine.topology.InputSpec": "keras.layers.InputSpec",
    "keras.callbacks.TensorBoard": "keras_jax_ext.callbacks.TensorBoard",
    "keras.layers.CuDNNLSTM": "keras.layers.LSTM",
    "keras.layers.CuDNNGRU": "keras.layers.GRU",
    "keras.optimizers.experimental.AdamW": "keras.optimizers.AdamW",
    "keras.experimental.CosineDecay": "keras.optimizers.schedules.CosineDecay",
    "keras.experimental.CosineDecayRestarts": (
        "keras.optimizers.schedules.CosineDecayRestarts"
    ),
    "keras.utils.Sequence": "keras.utils.PyDataset",
    "keras.utils.data_utils.Sequence": "keras.utils.PyDataset",
    "keras.utils.all_utils.Sequence": "keras.utils.PyDataset",
    "keras.utils.np_utils.to_categorical": "keras.utils.to_categorical",
    "keras.utils.np_utils.normalize": "keras.utils.normalize",
    "keras.utils.vis_utils.plot_model": "keras.utils.plot_model",
    "keras.utils.vis_utils.model_to_dot": "keras.utils.model_to_dot",
    "keras.utils.data_utils.get_file": "keras.utils.get_file",
    "keras.utils.generic_utils.Progbar": "keras.utils.Progbar",
    "keras.utils.generic_utils.get_custom_objects": (
        "keras.saving.get_custom_objects"
    ),
    "keras.utils.generic_utils.CustomObjectScope": (
        "keras.saving.CustomObjectScope"
    ),
    "keras.utils.layer_utils.get_source_inputs": (
        "keras.utils.get_source_inputs"
    ),
    "keras.preprocessing.sequence.pad_sequences": "keras.utils.pad_sequences",
    "keras.preprocessing.text.Tokenizer": "keras_jax_ext.keras2.Tokenizer",
    "keras.preprocessing.text.one_hot": "keras_jax_ext.keras2.one_hot",
    "keras.preprocessing.text.hashing_trick": (
        "keras_jax_ext.keras2.hashing_trick"
    ),
    "keras.preprocessing.text.text_to_word_sequence": (
        "keras_jax_ext.keras2.text_to_word_sequence"
    ),
    "keras.preprocessing.text.tokenizer_from_json": (
        "keras_jax_ext.keras2.tokenizer_from_json"
    ),
    "keras.preprocessing.image.ImageDataGenerator": (
        "keras_jax_ext.keras2.ImageDataGenerator"
    ),
    "keras.preprocessing.sequence.TimeseriesGenerator": (
        "keras_jax_ext.keras2.TimeseriesGenerator"
    ),
    "keras.preprocessing.sequence.skipgrams": "keras_jax_ext.keras2.skipgrams",
    "keras.preprocessing.sequence.make_sampling_table": (
        "keras_jax_ext.keras2.make_sampling_table"
    ),
    "keras.optimizers.adam": "keras.optimizers.Adam",
    "keras.optimizers.sgd": "keras.optimizers.SGD",
    "keras.optimizers.rmsprop": "keras.optimizers.RMSprop",
    "keras.optimizers.adagrad": "keras.optimizers.Adagrad",
    "keras.optimizers.adadelta": "keras.optimizers.Adadelta",
    "keras.optimizers.adamax": "keras.optimizers.Adamax",
    "keras.optimizers.nadam": "keras.optimizers.Nadam",
    "keras.initializers.normal": "keras.initializers.RandomNormal",
    "keras.initializers.uniform": "keras.initializers.RandomUniform",
    "keras.callbacks.experimental.BackupAndRestore": (
        "keras.callbacks.BackupAndRestore"
    ),
    "keras.layers.Deconvolution2D": "keras.layers.Conv2DTranspose",
    "keras.metrics.mae": "keras.metrics.mean_absolute_error",
    "keras.metrics.mse": "keras.metrics.mean_squared_error",
    "keras.metrics.MAE": "keras.metrics.mean_absolute_error",
    "keras.metrics.MSE": "keras.metrics.mean_squared_error",
    "keras.losses.mse": "keras.losses.mean_squared_error",
    "keras.losses.mae": "keras.losses.mean_absolute_error",
    "keras.losses.MSE": "keras.losses.mean_squared_error",
    "keras.losses.MAE": "keras.losses.mean_absolute_error",
    "keras.losses.MAPE": ("keras.losses.mean_absolute_percentage_error"),
    "keras.metrics.MAPE": ("keras.metrics.mean_absolute_percentage_error"),
    "keras.losses.mape": ("keras.losses.mean_absolute_percentage_error"),
    "keras.metrics.mape": ("keras.metrics.mean_absolute_percentage_error"),
    "keras.losses.MSLE": ("keras.losses.mean_squared_logarithmic_error"),
    "keras.metrics.MSLE": ("keras.metrics.mean_squared_logarithmic_error"),
    "keras.losses.msle": ("keras.losses.mean_squared_logarithmic_error"),
    "keras.metrics.msle": ("keras.metrics.mean_squared_logarithmic_error"),
    "keras.metrics.kld": "keras.losses.kl_divergence",
    "keras.metrics.KLD": "keras.losses.kl_divergence",
    "keras.metrics.logcosh": "keras.losses.log_cosh",
    "keras.losses.KLD": "keras.losses.kl_divergence",
    "keras.losses.kld": "keras.losses.kl_divergence",
    "keras.losses.kullback_leibler_divergence": "keras.losses.kl_divergence",
    "keras.losses.cosine_proximity": "keras.losses.cosine_similarity",
    "keras.losses.logcosh": "keras.losses.log_cosh",
    "keras.activations.hard_sigmoid": "keras_jax_ext.keras2.hard_sigmoid",
    "keras.metrics.kullback_leibler_divergence": "keras.losses.kl_divergence",
    "tensorflow.Tensor": "jax.Array",
    "tensorflow.Module": "keras_jax_ext.keras2.Module",
    "tensorflow.name_scope": "keras.name_scope",
    "keras.backend.name_scope": "keras.name_scope",
    "tensorflow.data.Dataset": "keras_jax_ext.data.Dataset",
    "keras.utils.image_dataset_from_directory": (
        "keras_jax_ext.data.image_dataset_from_directory"
    ),
    "keras.preprocessing.image_dataset_from_directory": (
        "keras_jax_ext.data.image_dataset_from_directory"
    ),
    "keras.mixed_precision.set_global_policy": "keras.config.set_dtype_policy",
    "keras.mixed_precision.experimental.set_policy": (
        "keras.config.set_dtype_policy"
    ),
}

# Keras 3 has these names, for packages that import them: to use one fails.
for _name in ("Adagrad", "Adam", "Ftrl", "Optimizer", "RMSprop", "SGD"):
    MOVED[f"keras.optimizers.legacy.{_name}"] = f"keras.optimizers.{_name}"

# Modules of Keras 2, and those that hold their names now.
MODULES = {
    "keras.layers.experimental.preprocessing": "keras.layers",
    "keras.layers.preprocessing": "keras.layers",
    "keras.layers.core": "keras.layers",
    "keras.layers.convolutional": "keras.layers",
    "keras.layers.recurrent": "keras.layers",
    "keras.layers.convolutional_recurrent": "keras.layers",
    "keras.layers.normalization": "keras.layers",
    "keras.layers.normalization.batch_normalization": "keras.layers",
    "keras.layers.normalization.batch_normalization_v1": "keras.layers",
    "keras.layers.normalization.layer_normalization": "keras.layers",
    "keras.layers.recurrent_v2": "keras.layers",
    "keras.optimizers.adam_v2": "keras.optimizers",
    "keras.optimizers.gradient_descent_v2": "keras.optimizers",
    "keras.optimizers.rmsprop_v2": "keras.optimizers",
    "keras.initializers.initializers_v2": "keras.initializers",
    "keras.losses_utils": "keras.losses",
    "keras.layers.advanced_activations": "keras.layers",
    "keras.layers.embeddings": "keras.layers",
    "keras.layers.pooling": "keras.layers",
    "keras.layers.merge": "keras.layers",
    "keras.layers.wrappers": "keras.layers",
    "keras.layers.noise": "keras.layers",
    "keras.optimizers.legacy": "keras.optimizers",
    "keras.optimizers.experimental": "keras.optimizers",
    "keras.objectives": "keras.losses",
    "keras.utils.np_utils": "keras.utils",
    "keras.utils.vis_utils": "keras.utils",
    "keras.utils.generic_utils": "keras.utils",
    "keras.applications.imagenet_utils": "keras.applications.imagenet_utils",
}

# Values that were names: what stands for them now.
VALUES = {
    "keras.losses.Reduction.NONE": '"none"',
    "keras.losses.Reduction.SUM": '"sum"',
    "keras.losses.Reduction.AUTO": '"sum_over_batch_size"',
    "keras.losses.Reduction.SUM_OVER_BATCH_SIZE": '"sum_over_batch_size"',
    "tensorflow.newaxis": "None",
    "tensorflow.__version__": "keras.__version__",
    "tensorflow.version.VERSION": "keras.__version__",
    "tensorflow.UnconnectedGradients.ZERO": '"zero"',
    "tensorflow.math.pi": "3.141592653589793",
    **{
        f"tensorflow.{name}": f'"{name}"'
        for name in [
            "bfloat16",
            "bool",
            "complex64",
            "float16",
            "float32",
            "float64",
            "int16",
            "int32",
            "int64",
            "int8",
            "uint16",
            "uint32",
            "uint64",
            "uint8",
        ]
    },
    "tensorflow.half": '"float16"',
    "tensorflow.double": '"float64"',
}
for _name in ("float32", "float64", "int32", "int64", "uint8", "bool"):
    VALUES[f"tensorflow.dtypes.{_name}"] = f'"{_name}"'
for _name in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
    VALUES[f"tensorflow.image.ResizeMethod.{_name.upper()}"] = f'"{_name}"'
VALUES["tensorflow.image.ResizeMethod.NEAREST_NEIGHBOR"] = '"nearest"'
VALUES["tensorflow.data.AUTOTUNE"] = "-1"
for _name in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"):
    VALUES[f"tensorflow.image.ResizeMethod.{_name.upper()}"] = f'"{_name}"'
VALUES["tensorflow.image.ResizeMethod.NEAREST_NEIGHBOR"] = '"nearest"'
VALUES["tensorflow.data.experimental.AUTOTUNE"] = "-1"
