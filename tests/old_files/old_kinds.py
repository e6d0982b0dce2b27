"""Models of every kind of layer, made by Keras 2, and files of them.

It needs tf_keras, which is Keras 2 by another name. `old_kinds.py` alone writes
`keras_2.tar.xz` anew, with what the models computed.
"""

import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers
K = keras.backend


def sequential(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


def functional(shapes, build):
    inputs = [keras.Input(shape) for shape in shapes]
    outputs = build(*inputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def on_vectors(build):
    return functional([(4,)], build)


def on_pair(build):
    return functional([(4,), (4,)], build)


def on_series(build):
    return functional([(5, 4)], build)


IMAGE, SERIES = (8, 8, 2), (5, 3)

DENSE = {
    "dense": lambda: sequential(
        (3,), L.Dense(4, activation="relu"), L.Dropout(0.3), L.Dense(2)
    ),
    "regularized": lambda: sequential(
        (3,),
        L.Dense(
            4,
            kernel_regularizer="l2",
            bias_regularizer=keras.regularizers.L1L2(0.1, 0.2),
            kernel_constraint=keras.constraints.MaxNorm(2.0),
            kernel_initializer=keras.initializers.VarianceScaling(2.0),
            activity_regularizer=keras.regularizers.L1(0.1),
        ),
    ),
    "activations": lambda: sequential(
        (3,),
        L.Dense(4, activation="swish"),
        *(L.Activation(a) for a in ("elu", "selu", "gelu", "softplus")),
        *(L.Activation(a) for a in ("softsign", "tanh", "exponential")),
        L.Dense(4, activation=L.LeakyReLU(alpha=0.1)),
        L.Dense(4, activation=tf.nn.relu6),
        L.Dense(4, activation="mish"),
        L.Softmax(),
    ),
    "hard_sigmoid": lambda: sequential(
        (3,),
        L.Dense(4, activation="hard_sigmoid"),
        L.Activation("hard_sigmoid"),
    ),
    "activation_layers": lambda: sequential(
        (4,),
        L.LeakyReLU(alpha=0.3),
        L.ReLU(max_value=6.0, negative_slope=0.1, threshold=0.2),
        L.ELU(alpha=0.5),
        L.PReLU(),
        L.ThresholdedReLU(theta=0.1),
        L.Softmax(axis=-1),
    ),
    "shapes": lambda: sequential(
        (6,),
        L.Reshape((2, 3)),
        L.Permute((2, 1)),
        L.Flatten(),
        L.RepeatVector(2),
        L.Masking(0.0),
    ),
    "noise": lambda: sequential(
        (4,),
        L.GaussianNoise(0.1),
        L.GaussianDropout(0.1),
        L.AlphaDropout(0.1),
        L.ActivityRegularization(0.1, 0.1),
        L.Dense(2),
    ),
    "embedding": lambda: keras.Sequential(
        [L.Embedding(10, 4, input_length=5), L.Flatten(), L.Dense(2)]
    ),
    "embedding_masked": lambda: sequential(
        (5,), L.Embedding(10, 4, mask_zero=True), L.LSTM(3)
    ),
    "einsum": lambda: sequential(
        (5, 4), L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")
    ),
}
CONVOLUTIONS = {
    "conv1d": lambda: sequential(
        (9, 2), L.Conv1D(3, 3, padding="causal", dilation_rate=2)
    ),
    "conv2d": lambda: sequential(
        IMAGE, L.Conv2D(4, 3, strides=2, padding="same", groups=2), L.Flatten()
    ),
    "conv3d": lambda: sequential((4, 4, 4, 2), L.Conv3D(2, 2)),
    "conv1d_transpose": lambda: sequential(
        (5, 2), L.Conv1DTranspose(3, 3, strides=2)
    ),
    "conv2d_transpose": lambda: sequential(
        (4, 4, 2),
        L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
    ),
    "conv3d_transpose": lambda: sequential(
        (3, 3, 3, 1), L.Conv3DTranspose(2, 2, strides=2)
    ),
    "separable1d": lambda: sequential((9, 2), L.SeparableConv1D(4, 3)),
    "separable2d": lambda: sequential(
        IMAGE, L.SeparableConv2D(4, 3, depth_multiplier=2)
    ),
    "depthwise1d": lambda: sequential((9, 2), L.DepthwiseConv1D(3)),
    "depthwise2d": lambda: sequential(
        IMAGE, L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")
    ),
    "pooling1d": lambda: sequential(
        (12, 2),
        L.AveragePooling1D(2, padding="same"),
        L.MaxPooling1D(2),
        L.GlobalMaxPooling1D(),
    ),
    "pooling2d": lambda: functional(
        [IMAGE],
        lambda x: [
            L.GlobalAveragePooling2D()(L.MaxPooling2D(3, padding="same")(x)),
            L.GlobalMaxPooling2D(keepdims=True)(
                L.AveragePooling2D(3, padding="same")(x)
            ),
        ],
    ),
    "pooling3d": lambda: sequential(
        (4, 4, 4, 2), L.MaxPooling3D(), L.GlobalAveragePooling3D()
    ),
    "padding": lambda: sequential(
        IMAGE,
        L.ZeroPadding2D(((1, 0), (2, 1))),
        L.Cropping2D(1),
        L.UpSampling2D(2, interpolation="bilinear"),
    ),
    "padding1d": lambda: sequential(
        (5, 2), L.ZeroPadding1D(2), L.Cropping1D(1), L.UpSampling1D(2)
    ),
    "spatial_dropout": lambda: sequential(
        IMAGE, L.SpatialDropout2D(0.2), L.Conv2D(2, 3)
    ),
}
NORMALIZATIONS = {
    "batch_normalization": lambda: sequential(
        IMAGE, L.Conv2D(3, 3), L.BatchNormalization(), L.LeakyReLU(alpha=0.3)
    ),
    "batch_normalization_plain": lambda: sequential(
        (4,), L.BatchNormalization(center=False, scale=False), L.Dense(2)
    ),
    "layer_normalization": lambda: sequential((5, 4), L.LayerNormalization()),
    "group_normalization": lambda: sequential(IMAGE, L.GroupNormalization(2)),
    "unit_normalization": lambda: sequential((5, 4), L.UnitNormalization()),
    "spectral_normalization": lambda: sequential(
        (4,), L.SpectralNormalization(L.Dense(3))
    ),
}
RECURRENT = {
    "lstm": lambda: sequential(
        SERIES, L.LSTM(4, return_sequences=True), L.LSTM(3)
    ),
    "lstm_hard": lambda: sequential(
        SERIES, L.LSTM(4, recurrent_activation="hard_sigmoid")
    ),
    "gru": lambda: sequential(SERIES, L.GRU(4, go_backwards=True)),
    "gru_reset_before": lambda: sequential(SERIES, L.GRU(4, reset_after=False)),
    "simple_rnn": lambda: sequential(SERIES, L.SimpleRNN(4)),
    "bidirectional": lambda: sequential(
        SERIES,
        L.Bidirectional(L.LSTM(4, return_sequences=True)),
        L.Bidirectional(L.GRU(3), merge_mode="sum"),
    ),
    "bidirectional_two": lambda: sequential(
        SERIES,
        L.Bidirectional(L.LSTM(4), backward_layer=L.GRU(4, go_backwards=True)),
    ),
    "time_distributed": lambda: sequential(
        SERIES,
        L.TimeDistributed(L.Dense(4)),
        L.TimeDistributed(sequential((4,), L.Dense(2), L.BatchNormalization())),
    ),
    "stacked_cells": lambda: sequential(
        SERIES, L.RNN([L.LSTMCell(4), L.GRUCell(3), L.SimpleRNNCell(2)])
    ),
    "stateful": lambda: keras.Sequential(
        [
            L.LSTM(4, stateful=True, batch_input_shape=(2, 5, 3)),
            L.Dense(2),
        ]
    ),
    "states": lambda: functional(
        [SERIES, SERIES],
        lambda a, b: L.LSTM(4)(
            b, initial_state=L.LSTM(4, return_state=True)(a)[1:]
        ),
    ),
    "conv_lstm1d": lambda: sequential((3, 6, 2), L.ConvLSTM1D(2, 3)),
    "conv_lstm2d": lambda: sequential((3, 6, 6, 2), L.ConvLSTM2D(2, 3)),
    "conv_lstm3d": lambda: sequential((2, 4, 4, 4, 1), L.ConvLSTM3D(2, 2)),
}
ATTENTION = {
    "multi_head_attention": lambda: functional(
        [(5, 4), (3, 4)],
        lambda q, v: L.MultiHeadAttention(2, 3, value_dim=2)(
            q, v, return_attention_scores=True
        ),
    ),
    "multi_head_self": lambda: on_series(
        lambda q: L.LayerNormalization()(
            L.MultiHeadAttention(2, 3)(q, q, use_causal_mask=True) + q
        )
    ),
    "attention": lambda: functional(
        [(5, 4), (3, 4)], lambda q, v: L.Attention(use_scale=True)([q, v])
    ),
    "additive_attention": lambda: functional(
        [(5, 4), (3, 4)], lambda q, v: L.AdditiveAttention()([q, v])
    ),
}


def shared():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    dense = L.Dense(3, name="shared")
    first, second = dense(a), dense(b)
    again = L.Dense(4, name="between")(first)
    return keras.Model(
        [a, b], [L.Dot(axes=1)([first, second]), dense(again), first]
    )


def by_name():
    inputs = {"left": keras.Input((4,)), "right": keras.Input((3,))}
    both = L.Concatenate()([inputs["left"], inputs["right"]])
    outputs = {"one": L.Dense(2)(both), "two": L.Dense(1)(inputs["left"])}
    return keras.Model(inputs, outputs)


def nested():
    inner = sequential((3,), L.Dense(4), L.BatchNormalization())
    inputs = keras.Input((4,))
    pair = keras.Model(inputs, [L.Dense(2)(inputs), inner.layers[1](inputs)])
    outer = keras.Input((3,))
    left, right = pair(inner(outer))
    return keras.Model(outer, L.Dense(1)(L.Concatenate()([left, right])))


def frozen():
    base = sequential(
        (4,),
        L.Dense(4),
        L.BatchNormalization(),
        L.Dense(4),
        L.BatchNormalization(),
    )
    base.trainable = False
    return sequential((4,), base, L.Dense(2))


def without_input_shape():
    model = keras.Sequential([L.Dense(3), L.Dense(2)])
    model.build((None, 4))
    return model


GRAPHS = {
    "merging": lambda: on_pair(
        lambda a, b: L.Concatenate()(
            [
                layer()([a, b])
                for layer in (L.Add, L.Subtract, L.Multiply, L.Average)
            ]
            + [L.Maximum()([a, b]), L.Minimum()([a, b])]
        )
    ),
    "shared": shared,
    "by_name": by_name,
    "nested": nested,
    "frozen": frozen,
    "without_input_shape": without_input_shape,
    "mixed_precision": lambda: sequential(
        (4,),
        L.Dense(3, dtype="mixed_float16"),
        L.Dense(2, dtype=keras.mixed_precision.Policy("mixed_bfloat16")),
        L.Activation("linear", dtype="float32"),
    ),
}


def arithmetic(x, y):
    return [
        x + y,
        x * 2.0 - 1.0,
        1.0 - x / 3.0,
        -x,
        abs(x) ** 2,
        2.0 / (y * y + 1.0),
        x @ tf.transpose(y),
        tf.add(x, y),
    ]


def slices(x):
    return [
        x[:, 1],
        x[..., 0],
        x[:, 1:4:2],
        x[:, tf.newaxis, -1],
        x[:, ::-1],
        x[:, :, 0:2],
    ]


OPERATIONS = {
    "op_arithmetic": lambda: on_pair(arithmetic),
    "op_slices": lambda: on_series(slices),
    "op_reductions": lambda: on_series(
        lambda x: [
            tf.reduce_mean(x, axis=1),
            tf.reduce_sum(x, axis=[1, 2], keepdims=True),
            tf.reduce_max(x, -1),
            tf.reduce_min(x, axis=-1),
            tf.reduce_prod(x, axis=1),
            tf.argmax(x, axis=-1),
            tf.math.reduce_std(x, axis=1),
            tf.math.reduce_variance(x, axis=1),
            tf.math.reduce_logsumexp(x, axis=1),
            tf.norm(x, axis=-1),
            tf.math.l2_normalize(x, axis=-1),
        ]
    ),
    "op_functions": lambda: on_vectors(
        lambda x: [
            f(x)
            for f in (
                tf.exp,
                tf.square,
                tf.abs,
                tf.sin,
                tf.cos,
                tf.tanh,
                tf.sign,
                tf.floor,
                tf.sigmoid,
                tf.nn.relu,
                tf.nn.relu6,
                tf.nn.elu,
                tf.nn.selu,
                tf.nn.gelu,
                tf.nn.softplus,
                tf.nn.softmax,
                tf.nn.log_softmax,
                tf.nn.silu,
                tf.nn.leaky_relu,
                tf.math.erf,
                lambda x: tf.sqrt(tf.abs(x)),
                lambda x: tf.math.log(tf.abs(x) + 1.0),
                lambda x: tf.math.rsqrt(tf.abs(x) + 1.0),
            )
        ]
    ),
    "op_shapes": lambda: on_series(
        lambda x: [
            tf.reshape(x, (-1, 20)),
            tf.transpose(x, (0, 2, 1)),
            tf.expand_dims(x, 1),
            tf.squeeze(x[:, 0:1], 1),
            tf.concat([x, x], axis=-1),
            tf.stack([x, x], axis=1),
            tf.tile(x, [1, 2, 1]),
            tf.split(x, 2, axis=-1)[1],
            tf.unstack(x, axis=1)[0],
            tf.pad(x, [[0, 0], [1, 0], [0, 0]]),
            tf.cast(x, "int32"),
            tf.gather(x, [0, 2], axis=1),
            tf.zeros_like(x),
            tf.ones_like(x),
            tf.reverse(x, [1]),
            tf.repeat(x, 2, axis=1),
        ]
    ),
    "op_choices": lambda: on_pair(
        lambda x, y: [
            tf.maximum(x, y),
            tf.minimum(x, 0.5),
            tf.clip_by_value(x, -0.5, 0.5),
            tf.where(x > y, x, y),
            tf.cast(tf.logical_and(x > 0.0, y > 0.0), "float32"),
            tf.cast(x >= y, "float32"),
            tf.cast(tf.equal(x, y), "float32"),
            tf.matmul(x, y, transpose_b=True),
            tf.math.squared_difference(x, y),
            tf.multiply(x, y),
            tf.pow(tf.abs(x), 1.5),
        ]
    ),
    "op_backend": lambda: on_pair(
        lambda x, y: [
            K.mean(x, axis=-1, keepdims=True),
            K.sqrt(
                K.maximum(K.sum(K.square(x - y), axis=1, keepdims=True), 1e-7)
            ),
            K.concatenate([x, y]),
            K.batch_dot(K.expand_dims(x, 1), K.expand_dims(y, 2)),
            K.clip(x, 0, 1),
            K.l2_normalize(x, axis=1),
            K.softmax(x),
        ]
    ),
    "op_dynamic_shape": lambda: on_series(
        lambda x: tf.reshape(x, (tf.shape(x)[0], 20))
    ),
    "op_add_shared": lambda: on_vectors(
        lambda x: L.Dense(2)(tf.concat([x, L.Dense(3)(x) * 2.0], 1))
    ),
}


def adapted(layer, data):
    layer.adapt(np.asarray(data, "float32"))
    return layer


PREPROCESSING = {
    "normalization": lambda: sequential(
        (3,), adapted(L.Normalization(), np.arange(12.0).reshape(4, 3) ** 2)
    ),
    "normalization_given": lambda: sequential(
        (3,), L.Normalization(mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0])
    ),
    "rescaling": lambda: sequential((4,), L.Rescaling(0.5, offset=-1.0)),
    "resizing": lambda: sequential(IMAGE, L.Resizing(4, 6), L.CenterCrop(3, 4)),
    "augmenting": lambda: sequential(
        IMAGE,
        L.RandomFlip("horizontal"),
        L.RandomRotation(0.1),
        L.RandomZoom(0.1),
        L.RandomContrast(0.1),
        L.RandomTranslation(0.1, 0.1),
        L.RandomBrightness(0.1),
        L.Conv2D(2, 3),
    ),
    "discretization": lambda: sequential((3,), L.Discretization([0.0, 1.0])),
    "category_encoding": lambda: sequential(
        (3,), L.CategoryEncoding(10, output_mode="multi_hot")
    ),
}


def double(x):
    return x * 2


# What Keras 3 does not have, or only with a function or with TensorFlow.
REMOVED = {
    "lambda": lambda: sequential((3,), L.Lambda(lambda x: x * 2)),
    "einsum_function": lambda: on_pair(
        lambda x, y: tf.einsum("ab,ac->abc", x, y)
    ),
    "lambda_named": lambda: sequential((3,), L.Lambda(double)),
    "random_crop": lambda: sequential(IMAGE, L.RandomCrop(6, 6)),
    "hashing": lambda: keras.Sequential(
        [keras.Input((3,), dtype="int64"), L.Hashing(5)]
    ),
    "integer_lookup": lambda: sequential(
        (3,), L.IntegerLookup(vocabulary=[3, 5])
    ),
    "locally_connected": lambda: sequential((9, 2), L.LocallyConnected1D(3, 3)),
    "ragged": lambda: keras.Sequential(
        [keras.Input((None,), ragged=True), L.Embedding(10, 3)]
    ),
}

# As older versions wrote them, by hand; Keras 2.21 reads them too.
_ZEROS = {"class_name": "Zeros", "config": {"dtype": "float32"}}
_SCALING = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "normal"},
}


def _dense(name, units, **config):
    inner = {
        "name": name,
        "units": units,
        "kernel_initializer": _SCALING,
        "bias_initializer": _ZEROS,
        **config,
    }
    return {"class_name": "Dense", "config": inner}


DOCUMENTS = {
    "old_sequential": {
        "class_name": "Sequential",
        "config": [
            _dense(
                "first",
                3,
                batch_input_shape=[None, 4],
                activation="hard_sigmoid",
            ),
            _dense("second", 2, input_dim=3),
        ],
        "keras_version": "2.1.6",
        "backend": "tensorflow",
    },
    "old_model": {
        "class_name": "Model",
        "config": {
            "name": "model_1",
            "layers": [
                {
                    "name": "x",
                    "class_name": "InputLayer",
                    "config": {
                        "name": "x",
                        "batch_input_shape": [None, 5, 3],
                        "dtype": "float32",
                        "sparse": False,
                    },
                    "inbound_nodes": [],
                },
                {
                    "name": "normal",
                    "class_name": "BatchNormalization",
                    "config": {"name": "normal", "axis": -1, "scale": False},
                    "inbound_nodes": [[["x", 0, 0, {}]]],
                },
                {
                    "name": "gru",
                    "class_name": "GRU",
                    "config": {
                        "name": "gru",
                        "units": 4,
                        "reset_after": False,
                        "recurrent_activation": "hard_sigmoid",
                        "recurrent_initializer": {
                            "class_name": "Orthogonal",
                            "config": {"gain": 1.0, "seed": None},
                        },
                        "implementation": 1,
                    },
                    "inbound_nodes": [[["normal", 0, 0, {}]]],
                },
            ],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["gru", 0, 0]],
        },
        "keras_version": "2.2.4",
        "backend": "tensorflow",
    },
}


def read(name):
    return lambda: keras.models.model_from_json(json.dumps(DOCUMENTS[name]))


OLDER = {name: read(name) for name in DOCUMENTS}


KINDS = {
    **DENSE,
    **CONVOLUTIONS,
    **NORMALIZATIONS,
    **RECURRENT,
    **ATTENTION,
    **GRAPHS,
    **OPERATIONS,
    **PREPROCESSING,
    **OLDER,
    **REMOVED,
}
INTEGERS = ("embedding", "embedding_masked", "category_encoding")
INTEGERS += ("hashing", "integer_lookup", "ragged")


def error(y_true, y_pred):
    return tf.abs(y_true - y_pred)


def compiled(optimizer, loss="mse", metrics=("mae",), units=1, **kwargs):
    model = sequential((3,), L.Dense(4, activation="tanh"), L.Dense(units))
    metrics = list(metrics) if isinstance(metrics, tuple) else metrics
    model.compile(optimizer, loss, metrics=metrics, **kwargs)
    return model


def two_outputs():
    inputs = keras.Input((3,))
    hidden = L.Dense(4, name="hidden")(inputs)
    model = keras.Model(
        inputs, [L.Dense(1, name="a")(hidden), L.Dense(1, name="b")(hidden)]
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        {"a": "mse", "b": keras.losses.Huber(0.5)},
        loss_weights={"a": 1.0, "b": 0.5},
        metrics={"a": ["mae"], "b": [keras.metrics.MeanSquaredError(name="m")]},
    )
    return model


NEW, LEGACY = keras.optimizers, keras.optimizers.legacy
COMPILED = {
    "adam": lambda: compiled("adam", metrics=("mae", "accuracy")),
    "amsgrad": lambda: compiled(NEW.Adam(0.01, amsgrad=True)),
    "adamw": lambda: compiled(NEW.AdamW(0.01, weight_decay=0.1)),
    "adamax": lambda: compiled(NEW.Adamax(0.01)),
    "nadam": lambda: compiled(NEW.Nadam(0.01)),
    "sgd": lambda: compiled(
        NEW.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0),
        keras.losses.MeanSquaredError(),
        [keras.metrics.MeanAbsoluteError(name="m"), "mse"],
    ),
    "rmsprop": lambda: compiled(
        NEW.RMSprop(
            NEW.schedules.ExponentialDecay(0.1, 10, 0.5),
            centered=True,
            momentum=0.1,
        ),
        {"dense_1": "mae"},
        {"dense_1": ["mse"]},
    ),
    "adagrad": lambda: compiled(
        NEW.Adagrad(0.1), keras.losses.Huber(0.5), None
    ),
    "adadelta": lambda: compiled(NEW.Adadelta(0.1), "logcosh"),
    "ftrl": lambda: compiled(NEW.Ftrl(0.1)),
    "legacy_adam": lambda: compiled(LEGACY.Adam(lr=0.01, decay=0.1)),
    "legacy_sgd": lambda: compiled(LEGACY.SGD(0.1, momentum=0.9, decay=0.01)),
    "legacy_rmsprop": lambda: compiled(LEGACY.RMSprop(0.01, centered=True)),
    "legacy_adagrad": lambda: compiled(LEGACY.Adagrad(0.1)),
    "own_functions": lambda: compiled("sgd", error, [error]),
    "classes": lambda: compiled(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ["accuracy"],
        units=3,
    ),
    "two_outputs": two_outputs,
}


class Scaling(L.Layer):
    """A layer of a user's own, which holds others."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = L.Dense(3, name="inner")

    def build(self, shape):
        self.scale = self.add_weight("scale", (3,))
        super().build(shape)

    def call(self, x):
        return self.inner(x) * self.scale


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = Scaling(name="body")
        self.normal = L.BatchNormalization(name="normal")
        self.head = L.Dense(2, name="head")
        self.offset = self.add_weight("offset", (2,))

    def call(self, x):
        return self.head(self.normal(self.body(x))) + self.offset


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    return model


# Of these there are files of the weights alone.
ONLY_WEIGHTS = {"subclassed": subclassed}
BOTH = ("dense", "shared", "lstm", "multi_head_self", "normalization")


def arrays_for(name, model, rng):
    """An array for each input, in the order of the file."""
    if name in ONLY_WEIGHTS:
        shapes = [(None, 4)]
    else:
        shapes = [tensor.shape for tensor in tf.nest.flatten(model.inputs)]
    shapes = [(2, *(n or 3 for n in shape[1:])) for shape in shapes]
    if name in INTEGERS:
        return [rng.integers(0, 10, s).astype("float32") for s in shapes]
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def structured(model, arrays):
    """Arrays as a model takes them."""
    if getattr(model, "input_names", None) and isinstance(model.input, dict):
        return dict(zip(sorted(model.input), arrays, strict=True))
    return arrays if len(arrays) > 1 else arrays[0]


def fill(model, rng):
    """Give every weight a value of its own; variances are positive."""
    values = []
    for variable in model.weights:
        new = rng.normal(size=variable.shape) * 0.5
        if not variable.dtype.is_floating:
            new = variable.numpy()
        values.append(abs(new) + 0.5 if "variance" in variable.name else new)
    model.set_weights(values)


def numbered(letter, arrays):
    return {f"{letter}{i}": np.asarray(v) for i, v in enumerate(arrays)}


def write_model(folder, name, model, rng):
    """Write the files of a model, and what it computes."""
    if name != "normalization":  # it has learnt its weights
        fill(model, rng)
    arrays = arrays_for(name, model, rng)
    outputs = []
    if name != "ragged":
        outputs = tf.nest.flatten(
            model(structured(model, arrays), training=False)
        )
    outputs = [v.numpy() for v in outputs]
    known = numbered("x", arrays) | numbered("y", outputs)
    np.savez(folder / f"{name}.npz", **known)
    if name in ONLY_WEIGHTS or name in DOCUMENTS or name in BOTH:
        model.save_weights(folder / f"{name}_weights.h5")
    if name in DOCUMENTS:
        text = json.dumps(DOCUMENTS[name])
        (folder / f"{name}.json").write_text(text)
    elif name not in ONLY_WEIGHTS:
        model.save(folder / f"{name}.h5")
        (folder / f"{name}.json").write_text(model.to_json())
    if name in BOTH:
        model.save(folder / f"{name}.keras")


def write_compiled(folder, name, model, rng):
    """Write a model that was trained, and how its training goes on."""
    fill(model, rng)
    x = rng.normal(size=(8, 3)).astype("float32")
    y = x[:, :1] * 2
    if name == "classes":
        y = rng.integers(0, 3, (8,))
    targets = [y] * len(model.outputs)
    targets = targets if len(targets) > 1 else y
    model.fit(x, targets, batch_size=4, shuffle=False, verbose=0)
    model.save(folder / f"{name}.h5")
    told = model.evaluate(x, targets, batch_size=4, verbose=0)
    history = model.fit(
        x, targets, batch_size=4, epochs=3, shuffle=False, verbose=0
    )
    np.savez(
        folder / f"{name}.npz",
        x=x,
        y=y,
        told=np.ravel(told),
        losses=history.history["loss"],
    )


def write(folder, names=None):
    """Write the files of all kinds, or of some, into a folder."""
    every = {**KINDS, **ONLY_WEIGHTS, **COMPILED}
    for number, name in enumerate(every):
        if names and name not in names:
            continue
        keras.backend.clear_session()
        keras.utils.set_random_seed(number)
        rng = np.random.default_rng(number)
        model = every[name]()
        made = write_compiled if name in COMPILED else write_model
        made(folder, name, model, rng)


def pack(folder, path):
    """Pack the files of a folder, each time into the same bytes."""
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for file in sorted(folder.iterdir(), key=lambda p: (p.suffix, p.name)):
            content = file.read_bytes()
            entry = tarfile.TarInfo(file.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]), sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as made:
            write(Path(made))
            pack(Path(made), Path(__file__).with_name("keras_2.tar.xz"))
