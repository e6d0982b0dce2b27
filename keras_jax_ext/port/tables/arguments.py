"""Arguments of Keras 2 that have another name or none in Keras 3."""

from keras_jax_ext.port.tables.keras1 import LAYERS

# In any call of this constructor (or of one below the module): argument ->
# its name now, or `None` where it is left out.
RENAMED: dict[str, dict[str, str | None]] = {
    # Optimizers are compiled with the step.
    "keras.optimizers": {"lr": "learning_rate", "jit_compile": None},
    "keras.layers.LeakyReLU": {"alpha": "negative_slope"},
    "keras.layers.BatchNormalization": {"fused": None},
    "keras.layers.InputLayer": {
        "input_shape": "shape",
        "batch_input_shape": "batch_shape",
    },
    "keras.layers.LSTM": {"implementation": None},
    "keras.layers.GRU": {"implementation": None},
    "keras.layers.SimpleRNN": {"implementation": None},
    "keras.layers.LSTMCell": {"implementation": None},
    "keras.layers.Dropout": {"p": "rate"},
    "keras.callbacks.ReduceLROnPlateau": {"epsilon": "min_delta"},
    "keras.callbacks.LambdaCallback": {
        "on_batch_begin": "on_train_batch_begin",
        "on_batch_end": "on_train_batch_end",
    },
    "keras.callbacks.ModelCheckpoint": {"period": None},
    # TensorFlow 2 took these no more, and warned.
    "keras.callbacks.TensorBoard": {
        "write_grads": None,
        "batch_size": None,
        "embeddings_layer_names": None,
        "embeddings_data": None,
    },
    "keras.datasets.imdb.load_data": {"nb_words": "num_words"},
    "keras.datasets.reuters.load_data": {"nb_words": "num_words"},
    "keras.utils.to_categorical": {"nb_classes": "num_classes"},
    "keras.models.Model": {"input": "inputs", "output": "outputs"},
    "keras.Model": {"input": "inputs", "output": "outputs"},
}
RENAMED |= {
    f"keras.engine.{name}Model": RENAMED["keras.Model"]
    for name in ("", "topology.", "training.")
}
RENAMED |= {
    "keras.constraints.MaxNorm": {"m": "max_value"},
    "keras.wrappers.scikit_learn.KerasClassifier": {"nb_epoch": "epochs"},
    "keras.wrappers.scikit_learn.KerasRegressor": {"nb_epoch": "epochs"},
}
for _layer, _names in LAYERS.items():
    _whole = f"keras.layers.{_layer}"
    RENAMED[_whole] = {**_names, **RENAMED.get(_whole, {})}
# Those whose loss means another thing.
NOTES = {
    ("keras.callbacks.ModelCheckpoint", "period"): (
        "`period` is gone: each epoch is saved"
    ),
}
for _size in ("Base", "Large", "Small", "Tiny", "XLarge"):
    for _module in ("applications", "applications.convnext"):
        RENAMED[f"keras.{_module}.ConvNeXt{_size}"] = {"model_name": "name"}
# Calls that take any keyword, and raise for those that they do not know.
CLOSED = (
    "keras.utils.plot_model",
    "keras.utils.model_to_dot",
    "keras.datasets.imdb.load_data",
    "keras.datasets.reuters.load_data",
)
# Defaults of Keras 2 that are others now, or none.
_POOLS = {"1D": "2", "2D": "(2, 2)", "3D": "(2, 2, 2)"}
_SLOPE = {"recurrent_activation": "keras_jax_ext.keras2.hard_sigmoid"}
DEFAULTS: dict[str, dict[str, str]] = {
    f"keras.layers.{name}{size}": {"pool_size": value}
    for name in ("AveragePooling", "AvgPool")
    for size, value in _POOLS.items()
}
DEFAULTS |= {f"keras.layers.ConvLSTM{size}": _SLOPE for size in _POOLS}
DEFAULTS["keras.regularizers.l1_l2"] = {"l1": "0.01", "l2": "0.01"}
# Arguments of `fit` and its like, whatever is called.
METHODS: dict[str, dict[str, str | None]] = {
    name: {
        "workers": None,
        "use_multiprocessing": None,
        "max_queue_size": None,
        "max_q_size": None,
        "nb_worker": None,
        "pickle_safe": None,
        "nb_epoch": "epochs",
        "generator": "x",
    }
    for name in (
        "fit",
        "evaluate",
        "predict",
        "fit_generator",
        "evaluate_generator",
        "predict_generator",
    )
}
METHODS["compile"] = {
    "experimental_run_tf_function": None,
    "experimental_steps_per_execution": "steps_per_execution",
    # Weights of each step are weights of that shape.
    "sample_weight_mode": None,
}
# Metrics are those of the batch, as by default.
for _name in ("train_on_batch", "test_on_batch"):
    METHODS[_name] = {"reset_metrics": None}
# Arguments of methods that count otherwise: refused.
COUNTED = ("samples_per_epoch", "nb_val_samples", "val_samples")
# Names of methods that changed alone.
METHOD_NAMES = {
    "fit_generator": "fit",
    "evaluate_generator": "evaluate",
    "predict_generator": "predict",
    "predict_proba": "predict",
    "add_variable": "add_weight",
}
# What every layer takes besides its own arguments.
OF_LAYERS = [
    "activity_regularizer",
    "trainable",
    "dtype",
    "autocast",
    "name",
    "input_shape",
    "input_dim",
]
