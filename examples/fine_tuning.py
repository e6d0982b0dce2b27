"""Fine-tuning: a frozen stem, two learning rates, a schedule, MultiSteps.

A network learns even digits, then odd ones: the first layer stays as it is,
the second one moves slowly, the new head moves fast. The file holds the
optimizer too.

Run: python examples/fine_tuning.py --out out
"""

# First: it selects the JAX backend of Keras.
import keras_jax_ext as kje

# isort: split
import argparse
import pathlib

from keras_jax_ext import optax

import keras
import numpy as np
from sklearn.datasets import load_digits


def digits(remainder):
    """Scaled pixels of the digits 2k + remainder, and k."""
    x, y = load_digits(return_X_y=True)
    chosen = y % 2 == remainder
    return (x[chosen] / 16).astype("float32"), y[chosen] // 2


def network(trunk):
    head = keras.layers.Dense(5, activation="softmax", name="head")
    return kje.Sequential([*trunk, head])


def fine_tuning(steps):
    """The stem frozen, the trunk at a tenth of the head's learning rate."""
    schedule = optax.warmup_cosine_decay_schedule(0, 1e-2, steps // 10, steps)
    slow = optax.warmup_cosine_decay_schedule(0, 1e-3, steps // 10, steps)
    labels = kje.optimizers.label_by_path(
        {"*stem/*": "frozen", "*trunk/*": "slow"}, default="fast"
    )
    transformation = optax.partition(
        {
            "frozen": optax.set_to_zero(),
            "slow": optax.adam(slow),
            "fast": optax.adam(schedule),
        },
        labels,
    )
    # Updates once in two batches, with the mean of their gradients.
    return optax.MultiSteps(transformation, 2)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    parser.add_argument("--quick", action="store_true", help="2 epochs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.epochs = 2
    keras.utils.set_random_seed(0)
    trunk = [
        keras.layers.Dense(64, activation="relu", name="stem"),
        keras.layers.Dense(32, activation="relu", name="trunk"),
    ]
    model = network(trunk)
    model.compile(optax.adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(*digits(0), epochs=arguments.epochs, verbose=0)

    x, y = digits(1)
    stem = np.array(trunk[0].kernel.value)
    model = network(trunk)
    steps = arguments.epochs * (len(x) // 32 + 1) // 2
    model.compile(
        fine_tuning(steps),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = model.fit(x, y, epochs=arguments.epochs, verbose=0).history
    unchanged = np.array_equal(stem, np.array(trunk[0].kernel.value))
    print(
        f"accuracy {history['accuracy'][0]:.3f} after one epoch, "
        f"{history['accuracy'][-1]:.3f} in the end"
    )
    print(f"the frozen stem is unchanged: {unchanged}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save_weights(arguments.out / "fine_tuning.weights.h5")


if __name__ == "__main__":
    main()
