"""What a step of optax costs, counted in the compiled program."""

from keras_jax_ext.optimizers import OptaxOptimizer

import jax
import jax.numpy as jnp
import keras
import optax

COUNT = 12


def cost(step, weights, state):
    """Operations on numbers, and copies of buffers, in a compiled step."""
    gradients = [jnp.ones_like(w) for w in weights]
    compiled = jax.jit(step, donate_argnums=0)
    compiled = compiled.lower((weights, state), gradients).compile()
    return compiled.cost_analysis()["flops"], compiled.as_text().count(" copy(")


def test_a_step_costs_what_a_loop_by_hand_costs_and_a_count():
    transformation = optax.adam(1e-3)
    optimizer = OptaxOptimizer(transformation)
    variables = [
        keras.Variable(jnp.ones((8, 8)), name=f"w_{i}") for i in range(COUNT)
    ]
    optimizer.build(variables)

    def step(carry, gradients):
        return optimizer.stateless_apply(carry[1], gradients, carry[0])

    def by_hand(carry, gradients):
        updates, state = transformation.update(gradients, carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    ours = cost(
        step,
        [jnp.ones((8, 8)) for _ in range(COUNT)],
        [jnp.array(v.value) for v in optimizer.variables],
    )
    weights = [jnp.ones((8, 8)) for _ in range(COUNT)]
    expected = cost(by_hand, weights, transformation.init(weights))
    # Keras counts the iterations.
    assert ours == (expected[0] + 1, expected[1])
