"""Many copies of a model, trained as one."""

from keras_jax_ext.ensembles.ensemble import Ensemble

__all__ = ["Ensemble"]
