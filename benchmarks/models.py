"""How fast `fit` and `predict` are on models that people train.

    python benchmarks/models.py --only transformer

Each row times the same model and data with stock `keras.Model`, at one step an
execution and at eight, beside `keras_jax_ext`: a step of `fit`, an epoch with
validation, and a batch of `predict`. Rounds are interleaved, medians reported.
The last column is the most memory of a process that trains and predicts, ours
over stock's. The rows of KerasHub and BayesFlow are left out where these
packages are not installed; BayesFlow's approximators sample, and have no
`predict`.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from fit import (
    CROSSENTROPY,
    RANDOM,
    Work,
    cross_entropy,
    dense,
    keras,
    kje,
    labels,
    layers,
    medians,
    recurrent,
    uniform,
)

CLASSES, WORDS = 10, 1000
STEPS_PER_EXECUTION = 8


def bidirectional(x):
    return layers.Dense(CLASSES)(layers.Bidirectional(layers.GRU(32))(x))


def temporal(x):
    for filters in (32, 64):
        x = layers.Conv1D(filters, 5, padding="same", activation="relu")(x)
        x = layers.MaxPooling1D()(x)
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))


def transformer(x, blocks=6, width=128, heads=4):
    x = layers.Embedding(WORDS, width)(x)
    for _ in range(blocks):
        normed = layers.LayerNormalization()(x)
        attend = layers.MultiHeadAttention(heads, width // heads)
        x = layers.Add()([x, attend(normed, normed)])
        normed = layers.LayerNormalization()(x)
        hidden = layers.Dense(4 * width, activation="gelu")(normed)
        x = layers.Add()([x, layers.Dense(width)(hidden)])
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x))


def unet(x):
    def pair(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    skipped = []
    for filters in (8, 16):
        x = pair(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = pair(x, 32)
    for filters, skip in zip((16, 8), reversed(skipped), strict=True):
        x = layers.UpSampling2D()(x)
        x = pair(layers.Concatenate()([x, skip]), filters)
    return layers.Conv2D(1, 1)(x)


def application(name):
    """A network of `keras.applications`, with random weights."""
    make = getattr(keras.applications, name)

    def outputs(x):
        return make(
            weights=None,
            input_tensor=x,
            classes=CLASSES,
            classifier_activation=None,
        ).output

    return outputs


def hub_classifier(x):
    """A small text classifier of KerasHub."""
    from keras_hub.models import BertBackbone

    backbone = BertBackbone(
        vocabulary_size=WORDS,
        num_layers=2,
        num_heads=2,
        hidden_dim=64,
        intermediate_dim=128,
        max_sequence_length=64,
    )
    same = keras.ops.ones_like(x)
    tokens = {"token_ids": x, "segment_ids": 0 * same, "padding_mask": same}
    return layers.Dense(CLASSES)(backbone(tokens)["pooled_output"])


def words(rows, length):
    return RANDOM.integers(0, WORDS, (rows, length)).astype("int32")


def classified(outputs, x, batch, by_hand=cross_entropy):
    """Work on classes. `by_hand=None`: no scan by hand is made of it."""
    digits = labels(len(x)), batch, CROSSENTROPY, by_hand
    return Work(outputs, x, *digits, 1, (STEPS_PER_EXECUTION,))


def reproduced(outputs, x, batch):
    """Work on images that are inputs and labels at once."""
    return Work(outputs, x, x, batch, "mse", None, 1, (STEPS_PER_EXECUTION,))


class Inference:
    """A BayesFlow approximator of 4 parameters, given 16 looks at them.

    It has the methods of `Work` that the table needs.
    """

    rows, batch, looks = 2048, 64, 16

    def __init__(self):
        theta = uniform(self.rows, 4)
        noise = 0.1 * uniform(self.rows, self.looks, 4)
        self.drawn = {"theta": theta, "x": theta[:, None] + noise}
        self.steps = self.rows // self.batch

    def model(self, cls, **options):
        import bayesflow as bf

        keras.utils.set_random_seed(0)
        adapter = bf.Adapter().concatenate(
            ["theta"], into="inference_variables"
        )
        model = bf.ContinuousApproximator(
            adapter=adapter.concatenate(["x"], into="summary_variables"),
            inference_network=bf.networks.CouplingFlow(depth=4),
            summary_network=bf.networks.DeepSet(),
        )
        model = model if cls is keras.Model else kje.extend(model)
        model.compile("adam", **options)
        return model

    def data(self, model, rows):
        import bayesflow as bf

        drawn = {name: values[:rows] for name, values in self.drawn.items()}
        return bf.OfflineDataset(
            drawn, batch_size=self.batch, adapter=model.adapter
        )

    def fit(self, cls, **options):
        model = self.model(cls, **options)
        data = self.data(model, self.rows)
        return lambda: model.fit(dataset=data, verbose=0)

    def validated(self, cls, options):
        model = self.model(cls, **options)
        data, held = (self.data(model, n) for n in (self.rows, self.rows // 2))
        return lambda: model.fit(dataset=data, validation_data=held, verbose=0)


def makers():
    """Functions that make the rows of the table, by title."""
    made = {
        "MLP 784-512-512-10": lambda: classified(
            dense(512, 512, CLASSES), uniform(4096, 784), 64
        ),
        "LSTM 32": lambda: classified(recurrent, uniform(1024, 28, 16), 64),
        "GRU 32, bidirectional": lambda: classified(
            bidirectional, uniform(1024, 28, 16), 64
        ),
        "convolutions, 1-D": lambda: classified(
            temporal, uniform(1024, 128, 8), 64
        ),
        "transformer, 6 blocks": lambda: classified(
            transformer, words(512, 64), 32
        ),
        "U-Net, 32x32": lambda: reproduced(unet, uniform(256, 32, 32, 1), 32),
        "autoencoder 784-64-784": lambda: reproduced(
            dense(256, 64, 256, 784), uniform(4096, 784), 64
        ),
        "MobileNetV3Small, 64x64": lambda: classified(
            application("MobileNetV3Small"), uniform(256, 64, 64, 3), 32, None
        ),
        "ResNet50, 32x32": lambda: classified(
            application("ResNet50"), uniform(256, 32, 32, 3), 32, None
        ),
        "EfficientNetV2B0, 64x64": lambda: classified(
            application("EfficientNetV2B0"), uniform(128, 64, 64, 3), 32, None
        ),
    }
    if importlib.util.find_spec("keras_hub"):
        made["BERT of KerasHub, 2 blocks"] = lambda: classified(
            hub_classifier, words(512, 64), 32, None
        )
    if importlib.util.find_spec("bayesflow"):
        made["coupling flow of BayesFlow"] = Inference
    return made


def kinds():
    """What is compared: pairs of a class and the arguments of `compile`."""
    several = {"steps_per_execution": STEPS_PER_EXECUTION}
    return {
        "stock": (keras.Model, {}),
        "best": (keras.Model, several),
        "ours": (kje.Model, {}),
    }


def validated(work, cls, options):
    """A function that trains an epoch and validates."""
    if isinstance(work, Inference):
        return work.validated(cls, options)
    model, half = work.model(cls, **options), len(work.x) // 2
    held = work.x[half:], work.y[half:]
    return lambda: model.fit(
        work.x, work.y, work.batch, validation_data=held, verbose=0
    )


def predicted(work, cls, options):
    """A function that predicts."""
    model = work.model(cls, **options)
    return lambda: model.predict(work.x, work.batch, verbose=0)


def times(work, rounds):
    """Medians by what is done and by contender, in microseconds a step."""
    made = {
        "step": {k: work.fit(cls, **o) for k, (cls, o) in kinds().items()},
        "validated": {k: validated(work, *v) for k, v in kinds().items()},
    }
    if not isinstance(work, Inference):
        made["predict"] = {k: predicted(work, *v) for k, v in kinds().items()}
    return {
        what: medians(functions, rounds, work.steps)
        for what, functions in made.items()
    }


def peak_memory(title, kind):
    """Bytes of a process that trains and predicts."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--peak", title, kind],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1])


def print_peak(title, kind):
    """Train and predict; print the most memory that the process had."""
    import resource

    work, (cls, options) = makers()[title](), kinds()[kind]
    validated(work, cls, options)()
    if not isinstance(work, Inference):
        predicted(work, cls, options)()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def row(title, measured, peaks):
    """One line: ours, and stock's times and memory over ours."""
    cells = [title, f"{measured['step']['ours']:.0f}"]
    for what in ("step", "validated", "predict"):
        values = measured.get(what)
        if values is None:
            cells += ["", ""]
            continue
        least = min(values["stock"], values["best"])
        cells.append(f"{values['stock'] / values['ours']:.2f}")
        cells.append(f"{least / values['ours']:.2f}")
    if peaks:
        cells.append(f"{peaks['ours'] / peaks['stock']:.2f}")
    print("| " + " | ".join(cells) + " |", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="part of a row's title")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.peak:
        print_peak(*options.peak)
        return
    print(
        "| model | ours, us a step | fit: stock / ours | best / ours "
        "| validated: stock / ours | best / ours | predict: stock / ours "
        "| best / ours | memory: ours / stock |\n" + "|---" * 9 + "|"
    )
    table = {}
    for title, make in makers().items():
        if options.only and options.only not in title:
            continue
        measured, peaks = times(make(), options.rounds), None
        if not options.no_memory:
            peaks = {k: peak_memory(title, k) for k in ("stock", "ours")}
        row(title, measured, peaks)
        table[title] = {"microseconds_a_step": measured, "peak_bytes": peaks}
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
