"""Models and weights in files that Keras 2 wrote."""
