"""Optax bound to the variables of a model; no Keras optimizer here."""
