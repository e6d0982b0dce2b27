"""Optax bound to the variables of a model, below any Keras optimizer."""
