"""What an iteration of a physics-informed network takes: Burgers' equation.

    python benchmarks/burgers.py

The network 2-20-20-20-1 with tanh, all of 2540 + 80 + 160 points in every
iteration, Adam, float32. `fit` over `kje.Points` beside loops by hand in JAX,
a step at a time and as one scan, with the same batch-wise derivatives.

DeepXDE on JAX too, if it is there, in an environment of its own:

    python -m venv build/deepxde
    build/deepxde/bin/pip install deepxde 'jax[cpu]' flax optax
    python benchmarks/burgers.py --deepxde build/deepxde/bin/python

It draws its own points, as many, and differentiates point by point. The last
loop by hand takes the first and second derivatives in one pass, the others one
after another, as `kje.derivatives` and `kje.derivative` do. Rounds are
interleaved; medians of wall time, in microseconds an iteration.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NU = 0.01 / np.pi
INSIDE, EDGE, START = 2540, 80, 160


def sets():
    """Random points, columns x and t."""
    random = np.random.default_rng(0)
    x = random.uniform([-1, 0], [1, 1], (INSIDE + EDGE + START, 2))
    inside, edge, start = np.split(x.astype("float32"), [INSIDE, INSIDE + EDGE])
    edge[:, 0] = np.sign(edge[:, 0])
    start[:, 1] = 0
    return {"inside": inside, "edge": edge, "start": start}


def ours(iterations):
    """An epoch of `fit`, which runs as many executions as it chooses."""
    import keras_jax_ext as kje
    from keras_jax_ext import layers

    import jax.numpy as jnp
    import optax

    def burgers(x, apply):
        u, (u_x, u_t) = kje.derivatives(apply, x["inside"])
        u_xx = kje.derivative(apply, x["inside"], 0, 0)
        start = -jnp.sin(np.pi * x["start"][:, :1])
        return {
            "pde": jnp.mean((u_t + u * u_x - NU * u_xx) ** 2),
            "edge": jnp.mean(apply(x["edge"]) ** 2),
            "start": jnp.mean((apply(x["start"]) - start) ** 2),
        }

    hidden = [layers.Dense(20, activation="tanh") for _ in range(3)]
    model = kje.Sequential([*hidden, layers.Dense(1)])
    model.compile(optax.adam(1e-3), burgers)
    points = kje.Points(**sets(), steps=iterations)
    return lambda: model.fit(points, verbose=0)


def by_hand(*, one_pass):
    """The step, and where it starts: weights and the state of Adam."""
    import jax
    import jax.numpy as jnp
    import optax

    x, optimizer = sets(), optax.adam(1e-3)
    random = np.random.default_rng(0)
    sizes = [2, 20, 20, 20, 1]
    params = [
        (random.normal(size=(a, b)) / np.sqrt(a), np.zeros(b))
        for a, b in itertools.pairwise(sizes)
    ]
    params = jax.tree.map(lambda a: jnp.asarray(a, "float32"), params)

    def net(params, x):
        for kernel, bias in params[:-1]:
            x = jnp.tanh(x @ kernel + bias)
        kernel, bias = params[-1]
        return x @ kernel + bias

    def slopes_of(params, rows):
        return jax.grad(lambda r: jnp.sum(net(params, r)))(rows)

    def derived(params, rows):
        """The outputs, the slopes of both columns, the curvature of x."""
        along = jnp.zeros_like(rows).at[:, 0].set(1)
        slopes, curves = jax.jvp(
            lambda r: slopes_of(params, r), (rows,), (along,)
        )
        if one_pass:
            return net(params, rows), slopes, curves
        u, pull_back = jax.vjp(lambda r: net(params, r), rows)
        return u, *pull_back(jnp.ones_like(u)), curves

    def loss(params):
        u, slopes, curves = derived(params, x["inside"])
        residual = slopes[:, 1:] + u * slopes[:, :1] - NU * curves[:, :1]
        begin = net(params, x["start"]) + jnp.sin(np.pi * x["start"][:, :1])
        return (
            jnp.mean(residual**2)
            + jnp.mean(net(params, x["edge"]) ** 2)
            + jnp.mean(begin**2)
        )

    def step(carry, _=None):
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), state), value

    return step, (params, optimizer.init(params))


def loop(iterations):
    """The compiled step, called in Python."""
    import jax

    step, carry = by_hand(one_pass=False)
    compiled = jax.jit(step)

    def run():
        after = carry
        for _ in range(iterations):
            after, value = compiled(after)
        jax.block_until_ready((after, value))

    return run


def scan(iterations, one_pass=False):
    """All iterations in one program."""
    import jax

    step, carry = by_hand(one_pass=one_pass)
    run = jax.jit(lambda c: jax.lax.scan(step, c, None, length=iterations))
    return lambda: jax.block_until_ready(run(carry))


def deepxde(iterations):
    """The same in DeepXDE, for its own interpreter."""
    import deepxde as dde

    box = dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 1)
    domain = dde.geometry.GeometryXTime(*box)

    def pde(x, y):
        u_x, _ = dde.grad.jacobian(y, x, i=0, j=0)
        u_t, _ = dde.grad.jacobian(y, x, i=0, j=1)
        u_xx, _ = dde.grad.hessian(y, x, i=0, j=0)
        return u_t + y[0] * u_x - NU * u_xx

    conditions = [
        dde.icbc.DirichletBC(domain, lambda x: 0, lambda _, on: on),
        dde.icbc.IC(
            domain, lambda x: -np.sin(np.pi * x[:, 0:1]), lambda _, on: on
        ),
    ]
    data = dde.data.TimePDE(
        domain,
        pde,
        conditions,
        num_domain=INSIDE,
        num_boundary=EDGE,
        num_initial=START,
    )
    net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot normal")
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, verbose=0)
    quiet = {"display_every": 10**9, "verbose": 0}
    return lambda: model.train(iterations=iterations, **quiet)


def answer(iterations):
    """Time a run of DeepXDE for each line that is read."""
    os.environ["DDE_BACKEND"] = "jax"
    if importlib.util.find_spec("deepxde") is None:
        print("missing", flush=True)
        return
    run = deepxde(iterations)
    run()  # compiles
    print("ready", flush=True)
    for _ in sys.stdin:
        print(f"seconds {timed(run)}", flush=True)


class Other:
    """A run in another interpreter, which times itself.

    Args:
        python: Path of the interpreter.
        iterations: Integer.
    """

    def __init__(self, python, iterations):
        script = [str(python), __file__, "--answer"]
        self._process = subprocess.Popen(
            [*script, "--iterations", str(iterations)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.is_there = self._line("ready", "missing") == "ready"

    def _line(self, *beginnings):
        for line in self._process.stdout:
            if line.startswith(beginnings):
                return line.strip()
        return ""

    def seconds(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line("seconds").split()[1])


def timed(run):
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--deepxde", type=Path, metavar="PYTHON")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--answer", action="store_true", help="of DeepXDE")
    options = parser.parse_args(argv)
    if options.answer:
        answer(options.iterations)
    else:
        compare(options)


def compare(options):
    """Time all that is there, and print the table."""
    runs = {}
    one_pass = functools.partial(scan, one_pass=True)
    names = ("ours", "loop", "scan", "one pass")
    for name, make in zip(names, (ours, loop, scan, one_pass), strict=True):
        run = make(options.iterations)
        run()  # compiles
        runs[name] = lambda run=run: timed(run)
    other = options.deepxde and Other(options.deepxde, options.iterations)
    if other and other.is_there:
        runs["deepxde"] = other.seconds
    else:
        print("DeepXDE is left out: no `--deepxde PYTHON` that imports it")
    runs["ours"]()  # the pace of the first fit is known by now
    times = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, seconds in runs.items():
            times[name].append(seconds() / options.iterations)
    table = {n: 1e6 * statistics.median(each) for n, each in times.items()}
    for name, micros in table.items():
        ratio = table["ours"] / micros
        print(f"{name:8} {micros:8.1f} us an iteration, ours / it {ratio:.3f}")
    if options.json:
        measured = {
            "versions": f"Python {platform.python_version()}",
            "cores": os.cpu_count(),
            "microseconds_an_iteration": table,
        }
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
