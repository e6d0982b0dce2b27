"""All that knows jaxprs, primitives and options of XLA's compiler."""
