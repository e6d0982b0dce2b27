"""Arguments of layers of Keras 1, which Keras 2 took by their new names."""

_INITIAL = {
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}
_DENSE = {**_INITIAL, "output_dim": "units"}
_RECURRENT = {
    **_DENSE,
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "U_regularizer": "recurrent_regularizer",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "consume_less": None,
}
_PLACED = {"border_mode": "padding", "dim_ordering": "data_format"}
_CONVOLUTION = {
    **_INITIAL,
    **_PLACED,
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
}
_POOLING = {**_PLACED, "pool_length": "pool_size", "stride": "strides"}
_RECURRENTS = ("SimpleRNN", "GRU", "LSTM")
CONVOLUTIONS_2D = (
    "Convolution2D",
    "Conv2D",
    "SeparableConvolution2D",
    "SeparableConv2D",
)
_CONVOLUTIONS = (
    *CONVOLUTIONS_2D,
    "Convolution1D",
    "Conv1D",
    "Convolution3D",
    "Conv3D",
)

# By the name of a layer: argument -> its name now, as `RENAMED`.
LAYERS: dict[str, dict[str, str | None]] = {
    "Dense": {**_DENSE},
    "Embedding": {
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "BatchNormalization": {
        "beta_init": "beta_initializer",
        "gamma_init": "gamma_initializer",
    },
    "GaussianNoise": {"sigma": "stddev"},
    "GaussianDropout": {"p": "rate"},
    "SpatialDropout1D": {"p": "rate"},
    "SpatialDropout2D": {"p": "rate", "dim_ordering": "data_format"},
    "UpSampling1D": {"length": "size"},
    "UpSampling2D": {"dim_ordering": "data_format"},
    "ZeroPadding2D": {"dim_ordering": "data_format"},
    "Cropping2D": {"dim_ordering": "data_format"},
    "PReLU": {"init": "alpha_initializer"},
    **{name: {**_RECURRENT} for name in _RECURRENTS},
    **{name: {**_CONVOLUTION} for name in _CONVOLUTIONS},
    **{
        f"{place}{kind}{pool}{size}": {**_POOLING}
        for place in ("", "Global")
        for kind in ("Max", "Average")
        for pool in ("Pooling", "Pool")
        for size in ("1D", "2D", "3D")
    },
}
# Values of `dim_ordering`.
ORDERINGS = {"tf": "channels_last", "th": "channels_first"}
# Ways of `merge`, and what merges so now.
MERGES = {
    "sum": "add",
    "mul": "multiply",
    "concat": "concatenate",
    "ave": "average",
    "max": "maximum",
}
