"""A small WGAN-GP: networks, losses, and the same training by hand."""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

CODES, PIXELS, STEPS = 4, 8, 3  # steps of the critic


def pictures(rows=40):
    return np.random.default_rng(0).uniform(size=(rows, PIXELS)).astype("f4")


def network(*sizes):
    first, *rest = sizes
    inner = [keras.layers.Dense(s, "tanh") for s in rest[:-1]]
    return keras.Sequential(
        [keras.Input((first,)), *inner, keras.layers.Dense(rest[-1])]
    )


class GAN(kje.Model):
    """Two networks, and no `call`: nobody needs the outputs of both."""

    def __init__(self):
        super().__init__()
        self.generator = network(CODES, 16, PIXELS)
        self.critic = network(PIXELS, 16, 1)


def codes(rng, x):
    return jax.random.normal(rng, (x.shape[0], CODES))


def distance(generator, critic, x, rng):
    """The loss of the critic, of two functions."""
    first, second = jax.random.split(rng)
    fake = generator(codes(first, x))
    share = jax.random.uniform(second, (x.shape[0], 1))
    between = share * x + (1 - share) * fake
    slopes = jax.grad(lambda z: jnp.sum(critic(z)))(between)
    norms = jnp.sqrt(jnp.sum(slopes**2, axis=1))
    return {
        "distance": jnp.mean(critic(fake)) - jnp.mean(critic(x)),
        "penalty": 10 * jnp.mean((norms - 1) ** 2),
    }


def critic_loss(model, x, rng):
    return distance(model.generator, model.critic, x, rng)


def generator_loss(model, x, rng):
    return -jnp.mean(model.critic(model.generator(codes(rng, x))))


def adam():
    return optax.adam(1e-3, b1=0.5, b2=0.9)


def updates(make=adam):
    return [
        kje.Update(critic_loss, "critic/*", make(), repeats=STEPS),
        kje.Update(generator_loss, "generator/*", make()),
    ]


def compiled(make=adam, **options):
    keras.utils.set_random_seed(1)
    gan = GAN()
    gan.compile(updates=updates(make), **options)
    return gan


def apply(weights, x):
    first, bias, last, other = weights
    return jnp.tanh(x @ first + bias) @ last + other


def by_hand(gan, x, batch_size, epochs):
    """The weights and the losses of each step, in plain JAX."""
    seed = int(gan.optimizer.seed[0])
    nets = {
        name: [v.value for v in getattr(gan, name).trainable_variables]
        for name in ("generator", "critic")
    }
    optimizer = adam()
    slots = {name: optimizer.init(net) for name, net in nets.items()}

    def of_critic(critic, nets, x, rng):
        parts = distance(
            lambda z: apply(nets["generator"], z),
            lambda z: apply(critic, z),
            x,
            rng,
        )
        return sum(parts.values())

    def of_generator(generator, nets, x, rng):
        fake = apply(generator, codes(rng, x))
        return -jnp.mean(apply(nets["critic"], fake))

    @jax.jit
    def step(nets, slots, x, first):
        losses = []
        for k in range(STEPS + 1):
            name = "critic" if k < STEPS else "generator"
            loss = of_critic if k < STEPS else of_generator
            rng = jax.random.fold_in(jax.random.key(seed), first + k)
            value, gradient = jax.value_and_grad(loss)(nets[name], nets, x, rng)
            change, own = optimizer.update(gradient, slots[name])
            nets = {**nets, name: optax.apply_updates(nets[name], change)}
            slots = {**slots, name: own}
            losses.append(value)
        return nets, slots, losses

    history, drawn = [], 0
    for _ in range(epochs):
        for i in range(0, len(x), batch_size):
            nets, slots, losses = step(
                nets, slots, x[i : i + batch_size], drawn
            )
            drawn += STEPS + 1
            history.append(losses)
    return [*nets["generator"], *nets["critic"]], np.array(history)
