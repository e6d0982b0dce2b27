"""Fine-tuning: a frozen stem, two learning rates, a schedule, MultiSteps.

A network learns even digits, then odd ones: the first layer stays as it is,
the second one moves slowly, the new head moves fast. The file of weights holds
the optimizer too; the picture has the loss and the rate of each label.

Run: python examples/fine_tuning.py --out out
"""

# First: it selects the JAX backend of Keras.
import keras_jax_ext as kje

# isort: split
import argparse
import pathlib

from keras_jax_ext import optax

import keras
import matplotlib.pyplot as plt
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


def schedules(updates):
    """Learning rates by label: the trunk has a tenth of the head's."""
    return {
        label: optax.warmup_cosine_decay_schedule(
            0, peak, updates // 10, updates
        )
        for label, peak in (("slow", 1e-3), ("fast", 1e-2))
    }


def fine_tuning(rates):
    """The stem frozen, an Adam with a rate of its own for each other label."""
    labels = kje.optimizers.label_by_path(
        {"*stem/*": "frozen", "*trunk/*": "slow"}, default="fast"
    )
    transformation = optax.partition(
        {
            "frozen": optax.set_to_zero(),
            **{label: optax.adam(rate) for label, rate in rates.items()},
        },
        labels,
    )
    # Updates once in two batches, with the mean of their gradients.
    return optax.MultiSteps(transformation, 2)


def picture(losses, rates, updates):
    """The loss of each epoch beside the learning rate of each update."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    left.plot(range(1, len(losses) + 1), losses, marker=".")
    left.set(xlabel="epoch", ylabel="loss")
    at = np.arange(updates)
    for label, rate in rates.items():
        right.semilogy(at[1:], rate(at)[1:], label=label)
    right.set(xlabel="update", ylabel="learning rate")
    right.legend(title="label")
    figure.tight_layout()
    return figure


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
    updates = arguments.epochs * (len(x) // 32 + 1) // 2
    rates = schedules(updates)
    model.compile(
        fine_tuning(rates),
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
    figure = picture(history["loss"], rates, updates)
    figure.savefig(arguments.out / "fine_tuning.png", dpi=150)


if __name__ == "__main__":
    main()
