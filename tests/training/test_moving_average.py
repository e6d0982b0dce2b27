"""`kje.MovingAverage` follows as a loop over the variables would."""

import keras_jax_ext as kje

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

RATE = 0.25
X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")


def network(normalized=False):
    normalization = [keras.layers.BatchNormalization()] if normalized else []
    return keras.Sequential(
        [
            keras.Input((3,)),
            *normalization,
            keras.layers.Dropout(0.1),
            keras.layers.Dense(2),
        ]
    )


class Pair(kje.Model):
    def __init__(self, normalized=False, trainable=True):
        super().__init__()
        self.online = network(normalized)
        self.target = network(normalized)
        self.target.trainable = trainable


def online_loss(model, x):
    return jnp.mean((model.online(x) - 1) ** 2)


def floats(net):
    return [np.array(v) for v in net.variables if "float" in v.dtype]


@pytest.mark.parametrize(
    ("every", "trainable", "normalized"),
    [(1, True, True), (1, False, False), (2, False, True), (2, True, False)],
)
def test_it_follows_step_by_step(every, trainable, normalized):
    model = Pair(normalized, trainable)
    model.compile(
        updates=[
            kje.Update(online_loss, "online/*", optax.adam(0.1), repeats=2),
            kje.MovingAverage(
                "target/*", of="online/*", rate=RATE, every=every
            ),
        ]
    )
    other = Pair(normalized, trainable)
    other.set_weights(model.get_weights())
    other.target.trainable = False
    other.compile(
        updates=[
            kje.Update(online_loss, "online/*", optax.adam(0.1), repeats=2)
        ]
    )
    for ours, theirs in zip(
        model.online.variables, other.online.variables, strict=True
    ):
        theirs.assign(np.array(ours.value))
    followed = floats(model.target)
    model.fit(X, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for step in range(6):
        at = 8 * (step % 3)
        other.train_on_batch(X[at : at + 8])
        if (step + 1) % every == 0:
            followed = [
                old + RATE * (new - old)
                for old, new in zip(followed, floats(other.online), strict=True)
            ]
    assert len(followed) == (6 if normalized else 2)
    for ours, theirs in zip(floats(model.target), followed, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_rate_of_one_is_a_copy():
    model = Pair()
    model.compile(
        updates=[
            kje.Update(online_loss, "online/*", "sgd"),
            kje.MovingAverage("target/*", of="online/*", rate=1.0),
        ]
    )
    model.fit(X, verbose=0)
    for ours, theirs in zip(
        floats(model.target), floats(model.online), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


class Agent(kje.Model):
    """An actor, two critics, and their slow copies, as in TD3."""

    def __init__(self):
        super().__init__()
        self.actor = self.policy()
        self.critics = [self.value(), self.value()]
        self.slow_actor = self.policy()
        self.slow_critics = [self.value(), self.value()]
        for net in (self.slow_actor, *self.slow_critics):
            net.trainable = False

    def policy(self):
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, "tanh")]
        )

    def value(self):
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(8, "relu"),
                keras.layers.Dense(1),
            ]
        )

    def call(self, state):
        return self.actor(state)


def q(critic, state, action):
    return critic(jnp.concatenate([state, action], axis=1))


def critic_loss(model, x, rng):
    action = model.slow_actor(x["next"])
    noise = 0.1 * jax.random.normal(rng, action.shape)
    slow = [q(c, x["next"], action + noise) for c in model.slow_critics]
    target = x["reward"] + 0.9 * jnp.minimum(*slow)
    target = jax.lax.stop_gradient(target)
    return {
        f"q{i}": (q(c, x["state"], x["action"]) - target) ** 2
        for i, c in enumerate(model.critics)
    }


def actor_loss(model, x):
    return -jnp.mean(q(model.critics[0], x["state"], model.actor(x["state"])))


def test_an_actor_with_two_critics_learns_where_the_reward_is():
    rng = np.random.default_rng(1)
    state = rng.normal(size=(512, 3)).astype("float32")
    action = rng.uniform(-1, 1, size=(512, 1)).astype("float32")
    batch = {
        "state": state,
        "action": action,
        "reward": -action,
        "next": rng.normal(size=(512, 3)).astype("float32"),
    }
    agent = Agent()
    agent.compile(
        updates=[
            kje.Update(critic_loss, "critics/*", optax.adam(1e-2)),
            kje.Update(actor_loss, "actor/*", optax.adam(1e-2)),
            kje.MovingAverage(
                ["slow_actor/*", "slow_critics/*"],
                of=["actor/*", "critics/*"],
                rate=0.05,
            ),
        ]
    )
    history = agent.fit(batch, batch_size=64, epochs=20, verbose=0).history
    assert set(history) == {
        "loss",
        "actor_loss",
        "critic_loss/q0",
        "critic_loss/q1",
    }
    chosen = agent.slow_actor.predict(state, verbose=0)
    assert np.mean(chosen) < -0.5
