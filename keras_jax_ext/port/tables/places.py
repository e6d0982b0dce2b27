"""The order of arguments of Keras 2, where Keras 3 has another one."""

_INPUT = "shape batch_size name dtype sparse tensor ragged type_spec"
_OF_OPTIMIZERS = (
    "weight_decay clipnorm clipvalue global_clipnorm use_ema ema_momentum "
    "ema_overwrite_frequency jit_compile name"
)
_CONV_NEXT = (
    "name include_top include_preprocessing weights input_tensor input_shape "
    "pooling classes classifier_activation"
)
_PLOT = (
    "to_file show_shapes show_dtype show_layer_names rankdir expand_nested "
    "dpi layer_range show_layer_activations show_trainable"
)
_INITIAL = "kernel_initializer recurrent_initializer bias_initializer"
_REGULAR = (
    "kernel_regularizer recurrent_regularizer bias_regularizer "
    "activity_regularizer kernel_constraint recurrent_constraint "
    "bias_constraint"
)
_BEHIND = "return_sequences return_state go_backwards stateful"
_GATED = f"units activation recurrent_activation use_bias {_INITIAL}"
_CONV_LSTM = (
    "filters kernel_size strides padding data_format dilation_rate activation "
    f"recurrent_activation use_bias {_INITIAL} unit_forget_bias {_REGULAR} "
    f"{_BEHIND} dropout recurrent_dropout"
)

# Names as they are in Keras 3.
PLACES: dict[str, str] = {
    "keras.Input": _INPUT,
    "keras.layers.Input": _INPUT,
    "keras.layers.InputLayer": (
        "shape batch_size dtype input_tensor sparse name ragged type_spec"
    ),
    "keras.layers.Conv3DTranspose": (
        "filters kernel_size strides padding output_padding data_format "
        "dilation_rate activation use_bias kernel_initializer "
        "bias_initializer kernel_regularizer bias_regularizer "
        "activity_regularizer kernel_constraint bias_constraint"
    ),
    "keras.layers.EinsumDense": (
        "equation output_shape activation bias_axes kernel_initializer "
        "bias_initializer kernel_regularizer bias_regularizer "
        "activity_regularizer kernel_constraint bias_constraint"
    ),
    "keras.layers.Embedding": (
        "input_dim output_dim embeddings_initializer embeddings_regularizer "
        "activity_regularizer embeddings_constraint mask_zero input_length "
        "sparse"
    ),
    "keras.layers.GRU": (
        f"{_GATED} {_REGULAR} dropout recurrent_dropout {_BEHIND} unroll "
        "time_major reset_after"
    ),
    "keras.layers.LSTM": (
        f"{_GATED} unit_forget_bias {_REGULAR} dropout recurrent_dropout "
        f"{_BEHIND} time_major unroll"
    ),
    "keras.layers.RNN": (
        "cell return_sequences return_state go_backwards stateful unroll "
        "time_major"
    ),
    "keras.layers.MultiHeadAttention": (
        "num_heads key_dim value_dim dropout use_bias output_shape "
        "attention_axes kernel_initializer bias_initializer "
        "kernel_regularizer bias_regularizer activity_regularizer "
        "kernel_constraint bias_constraint softmax_robust_masking"
    ),
    "keras.layers.RandomContrast": "factor seed",
    "keras.losses.Loss": "reduction name",
    "keras.losses.SparseCategoricalCrossentropy": (
        "from_logits ignore_class reduction name"
    ),
    "keras.losses.sparse_categorical_crossentropy": (
        "y_true y_pred from_logits axis ignore_class"
    ),
    "keras.callbacks.BackupAndRestore": (
        "backup_dir save_freq delete_checkpoint save_before_preemption"
    ),
    "keras.callbacks.LambdaCallback": (
        "on_epoch_begin on_epoch_end on_batch_begin on_batch_end "
        "on_train_begin on_train_end"
    ),
    "keras.callbacks.ModelCheckpoint": (
        "filepath monitor verbose save_best_only save_weights_only mode "
        "save_freq options initial_value_threshold"
    ),
    "keras.utils.load_img": (
        "path grayscale color_mode target_size interpolation keep_aspect_ratio"
    ),
    "keras.utils.Progbar": (
        "target width verbose interval stateful_metrics unit_name"
    ),
    "keras.utils.plot_model": f"model {_PLOT}",
    "keras.utils.model_to_dot": (
        "model show_shapes show_dtype show_layer_names rankdir expand_nested "
        "dpi subgraph layer_range show_layer_activations show_trainable"
    ),
    "keras.models.save_model": "model filepath overwrite save_format",
    "keras.saving.save_model": "model filepath overwrite save_format",
}
PLACES["keras.layers.Convolution3DTranspose"] = PLACES[
    "keras.layers.Conv3DTranspose"
]
PLACES["keras.metrics.sparse_categorical_crossentropy"] = PLACES[
    "keras.losses.sparse_categorical_crossentropy"
]
PLACES["keras.preprocessing.image.load_img"] = PLACES["keras.utils.load_img"]
for _axes in ("1D", "2D", "3D"):
    PLACES[f"keras.layers.ConvLSTM{_axes}"] = _CONV_LSTM
for _size in ("Base", "Large", "Small", "Tiny", "XLarge"):
    for _module in ("applications", "applications.convnext"):
        PLACES[f"keras.{_module}.ConvNeXt{_size}"] = _CONV_NEXT
for _name, _own in {
    "Adadelta": "rho epsilon",
    "Adagrad": "initial_accumulator_value epsilon",
    "Adam": "beta_1 beta_2 epsilon amsgrad",
    "AdamW": "weight_decay beta_1 beta_2 epsilon amsgrad",
    "Adamax": "beta_1 beta_2 epsilon",
    "Nadam": "beta_1 beta_2 epsilon",
    "RMSprop": "rho momentum epsilon centered",
    "SGD": "momentum nesterov",
}.items():
    _rest = [k for k in _OF_OPTIMIZERS.split() if k not in _own.split()]
    PLACES[f"keras.optimizers.{_name}"] = " ".join(
        ["learning_rate", _own, *_rest]
    )
# Switches of optimizers, in the place of which Keras 1 had a number: `decay`.
SWITCHES = {
    "keras.optimizers.SGD": ("nesterov", 2),
    "keras.optimizers.Adam": ("amsgrad", 4),
}
_DATA = "max_queue_size workers use_multiprocessing"
# The same of methods.
OF_METHODS = {
    "fit": (
        "x y batch_size epochs verbose callbacks validation_split "
        "validation_data shuffle class_weight sample_weight initial_epoch "
        "steps_per_epoch validation_steps validation_batch_size "
        f"validation_freq {_DATA}"
    ),
    "evaluate": (
        "x y batch_size verbose sample_weight steps callbacks "
        f"{_DATA} return_dict"
    ),
    "predict": f"x batch_size verbose steps callbacks {_DATA}",
    "train_on_batch": (
        "x y sample_weight class_weight reset_metrics return_dict"
    ),
    "test_on_batch": "x y sample_weight reset_metrics return_dict",
}
OF_FILES = {
    "save": "filepath overwrite save_format",
    "save_weights": "filepath overwrite save_format",
}
# And of calls of layers.
OF_CALLS = {
    "keras.layers.MultiHeadAttention": (
        "query value key attention_mask return_attention_scores training "
        "use_causal_mask"
    ),
}
# How many of them have the same place in Keras 3.
KEPT = {
    "fit": 16,
    "evaluate": 7,
    "predict": 5,
    "train_on_batch": 4,
    "test_on_batch": 3,
    "save": 2,
    "save_weights": 2,
    "keras.layers.MultiHeadAttention": 3,
}
