"""Options of XLA's compiler that make a loop of small steps fast."""

import functools
import os

import jax

Options = dict[str, str | bool]

_BY_BACKEND: dict[str, Options] = {
    # XLA's default order of kernels keeps many of them ready at once. On a few
    # cores the order that needs least memory took up to 10% less time, since a
    # kernel then reads what was just written; and a quarter less while another
    # program ran.
    "cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"},
    # XLA records kernels as CUDA graphs, but not the loop around them: the
    # host then reads whether to go on before each step. With the loop recorded
    # too, steps of the article's model took 61 us for 126 on an H200.
    "gpu": {
        "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,"
        "CUSTOM_CALL,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
    },
}


@functools.cache
def compiler_options(backend: str) -> Options:
    """Options for XLA's compiler; none if this XLA does not know them.

    Those that the user has set in `XLA_FLAGS` are left out.

    Args:
        backend: String, as `jax.default_backend()` names it.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    given = _BY_BACKEND.get(backend, {})
    options = {k: v for k, v in given.items() if k not in flags}
    try:
        jax.jit(lambda: 0).lower().compile(options)
    except jax.errors.JaxRuntimeError:
        return {}
    return options
