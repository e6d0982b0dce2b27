"""What a step of several updates costs, beside a scan by hand and stock Keras.

    python benchmarks/updates.py
    python benchmarks/updates.py --rounds 9 --json updates.json

A WGAN-GP on random pictures of 64 pixels, batch 64, five updates of the critic
and one of the generator in a step. Three ways: `compile(updates=)` and `fit`; a
`lax.scan` over an epoch in plain JAX and optax; stock `fit` with a `train_step`
of its own. Rounds are interleaved, medians in microseconds a step. The first
epoch, which compiles, is timed once each, in seconds.
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

ROWS, BATCH, CODES, REPEATS = 64 * 28, 64, 16, 5


def networks():
    """The generator and the critic."""
    return (
        keras.Sequential(
            [
                keras.Input((CODES,)),
                keras.layers.Dense(64, "relu"),
                keras.layers.Dense(64, "sigmoid"),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(64, "leaky_relu"),
                keras.layers.Dense(64, "leaky_relu"),
                keras.layers.Dense(1),
            ]
        ),
    )


def of_critic(generator, critic, x, rng):
    first, second = jax.random.split(rng)
    fake = generator(jax.random.normal(first, (BATCH, CODES)))
    share = jax.random.uniform(second, (BATCH, 1))
    between = share * x + (1 - share) * fake
    slopes = jax.grad(lambda z: jnp.sum(critic(z)))(between)
    steepness = jnp.sqrt(jnp.sum(slopes**2, axis=1) + 1e-12)
    distance = jnp.mean(critic(fake)) - jnp.mean(critic(x))
    return distance + 10 * jnp.mean((steepness - 1) ** 2)


def of_generator(generator, critic, rng):
    fake = generator(jax.random.normal(rng, (BATCH, CODES)))
    return -jnp.mean(critic(fake))


def critic_loss(model, x, rng):
    return of_critic(model.generator, model.critic, x, rng)


def generator_loss(model, rng):
    return of_generator(model.generator, model.critic, rng)


def adam():
    return optax.adam(1e-4, b1=0.5, b2=0.9)


class GAN(kje.Model):
    def __init__(self):
        super().__init__()
        self.generator, self.critic = networks()


def ours(x):
    """A function that trains for an epoch."""
    gan = GAN()
    gan.compile(
        updates=[
            kje.Update(critic_loss, "critic/*", adam(), repeats=REPEATS),
            kje.Update(generator_loss, "generator/*", adam()),
        ]
    )
    return lambda epochs: gan.fit(x, batch_size=BATCH, epochs=epochs, verbose=0)


def by_hand(x):
    """A function that trains for an epoch, in plain JAX."""

    def dense(weights, h, *activations):
        pairs = zip(weights[::2], weights[1::2], strict=True)
        for (kernel, bias), activation in zip(pairs, activations, strict=True):
            h = activation(h @ kernel + bias)
        return h

    def slope(h):
        return jax.nn.leaky_relu(h, 0.2)

    def identity(h):
        return h

    def draw(weights):
        return lambda z: dense(weights, z, jax.nn.relu, jax.nn.sigmoid)

    def tell(weights):
        return lambda z: dense(weights, z, slope, slope, identity)

    optimizer = adam()

    def step(carry, rows):
        generator, critic, slots, count = carry
        batch = x[rows]

        def update(carry, _):
            critic, slots, count = carry
            rng = jax.random.fold_in(jax.random.key(0), count)
            value, gradient = jax.value_and_grad(
                lambda w: of_critic(draw(generator), tell(w), batch, rng)
            )(critic)
            change, slots = optimizer.update(gradient, slots)
            critic = optax.apply_updates(critic, change)
            return (critic, slots, count + 1), value

        start = critic, slots[0], count
        (critic, first, count), losses = jax.lax.scan(
            update, start, length=REPEATS
        )
        rng = jax.random.fold_in(jax.random.key(0), count)
        value, gradient = jax.value_and_grad(
            lambda w: of_generator(draw(w), tell(critic), rng)
        )(generator)
        change, second = optimizer.update(gradient, slots[1])
        generator = optax.apply_updates(generator, change)
        carry = generator, critic, (first, second), count + 1
        return carry, (losses.mean(), value)

    @functools.partial(jax.jit, donate_argnums=0)
    def epoch(carry, order):
        carry, losses = jax.lax.scan(step, carry, order)
        return carry, jax.tree.map(jnp.mean, losses)

    nets = [[v.value for v in net.trainable_variables] for net in networks()]
    slots = optimizer.init(nets[1]), optimizer.init(nets[0])
    carry = [(*nets, slots, jnp.zeros((), "int32"))]
    x = jnp.asarray(x)
    rng = np.random.default_rng(0)

    def run(epochs):
        for _ in range(epochs):
            order = rng.permutation(ROWS).reshape(-1, BATCH)
            carry[0], losses = epoch(carry[0], order)
        jax.block_until_ready((carry[0], losses))

    return run


class Stock(keras.Model):
    """Stock Keras, with a `train_step` of its own."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = networks()
        self.built = True
        self.drawn = self.add_weight(
            shape=(), dtype="int32", trainable=False, initializer="zeros"
        )
        self.trackers = [
            keras.metrics.Mean(name=name)
            for name in ("critic_loss", "generator_loss")
        ]

    def train_step(self, state, data):
        trainable, (drawn,), slots, metrics = state
        x, *_ = keras.utils.unpack_x_y_sample_weight(data)
        generators = len(self.generator.trainable_variables)
        own = [slice(generators, None), slice(generators)]
        optimizers = self.optimizer.each
        size = len(optimizers[0].variables)
        slots = [slots[:size], slots[size:]]
        trainable, losses = list(trainable), [[], []]
        for k in range(REPEATS + 1):
            which = int(k == REPEATS)
            rng = jax.random.fold_in(jax.random.key(0), drawn)

            def compute(chosen, which=which, rng=rng):
                values = list(trainable)
                values[own[which]] = chosen
                pairs = zip(self.trainable_variables, values, strict=True)
                with keras.StatelessScope(list(pairs)):
                    if which:
                        return generator_loss(self, rng)
                    return critic_loss(self, x, rng)

            chosen = trainable[own[which]]
            value, gradients = jax.value_and_grad(compute)(chosen)
            chosen, slots[which] = optimizers[which].stateless_apply(
                slots[which], gradients, chosen
            )
            trainable[own[which]] = chosen
            losses[which].append(value)
            drawn = drawn + 1
        pairs = zip(self.metrics_variables, metrics, strict=True)
        with keras.StatelessScope(list(pairs)) as scope:
            for tracker, values in zip(self.trackers, losses, strict=True):
                tracker.update_state(jnp.stack(values))
            logs = {t.name: t.result() for t in self.trackers}
        metrics = [scope.get_current_value(v) for v in self.metrics_variables]
        return logs, (trainable, [drawn], [*slots[0], *slots[1]], metrics)


class Both:
    """What `Stock` shows to Keras's trainer as its optimizer."""

    built = True

    def __init__(self, each):
        self.each = each
        self.variables = [v for one in each for v in one.variables]

    def finalize_variable_values(self, variables):
        """Nothing is left to do."""


def stock(x):
    """A function that trains for an epoch, in stock Keras."""
    gan = Stock()
    each = [keras.optimizers.Adam(1e-4, 0.5, 0.9) for _ in range(2)]
    each[0].build(gan.critic.trainable_variables)
    each[1].build(gan.generator.trainable_variables)
    gan.compile()
    gan.optimizer = Both(each)
    return lambda epochs: gan.fit(x, batch_size=BATCH, epochs=epochs, verbose=0)


def seconds(run, epochs):
    started = time.perf_counter()
    run(epochs)
    return time.perf_counter() - started


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=20, help="of a round")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args(argv)
    x = np.random.default_rng(0).uniform(size=(ROWS, 64)).astype("float32")
    made = {make.__name__: make(x) for make in (ours, by_hand, stock)}
    figures = {name: {"first": seconds(f, 1)} for name, f in made.items()}
    times = {name: [] for name in made}
    for run in made.values():
        run(args.epochs)
    for _ in range(args.rounds):
        for name, run in made.items():
            times[name].append(seconds(run, args.epochs))
    steps = args.epochs * ROWS // BATCH
    for name, each in times.items():
        figures[name]["step"] = 1e6 * statistics.median(each) / steps
    for name, found in figures.items():
        ratio = found["step"] / figures["by_hand"]["step"]
        print(
            f"{name:8} {found['step']:8.1f} us a step, {ratio:5.2f} of the "
            f"scan by hand; first epoch {found['first']:5.2f} s"
        )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
