"""Ports scripts of tf.keras and Keras 2: `python -m keras_jax_ext.port`."""
