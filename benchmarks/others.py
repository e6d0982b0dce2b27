"""How fast the article's model trains in other frameworks, beside ours.

    python benchmarks/others.py --env build/others

Plain loops of PyTorch and of Flax NNX, as their tutorials write them, and the
`fit` of Keras's nightly: each in an environment of its own, which this script
makes in the folder `--env` where it is not there yet. `--python torch=PATH`
names an interpreter that exists instead. Each contender is a process that
waits for its turn; the rounds of all are interleaved, and the medians printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROWS, BATCH, EPOCHS, MIXTURE = 3000, 64, 10, 5
STEPS = EPOCHS * -(-ROWS // BATCH)
NEEDS = {
    "torch": ["torch", "numpy"],
    "flax": ["flax", "optax", "numpy"],
    "nightly": ["keras-nightly", "jax", "optax", "numpy"],
}


def data():
    """Rows as those of `fit.py`: a column of numbers, twice."""
    import numpy as np

    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, 1)).astype("float32")
    return x, x


def torch_loop():
    """PyTorch: an eager loop over a `DataLoader`'s worth of slices."""
    import torch
    from torch import nn

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Linear(1, 64)
            self.components = nn.ModuleList(
                [nn.Linear(64, 2) for _ in range(MIXTURE)]
            )
            self.gating = nn.Linear(64, MIXTURE)

        def forward(self, x):
            x = torch.relu(self.backbone(x))
            y = torch.stack([layer(x) for layer in self.components], 1)
            probs = torch.softmax(self.gating(x), -1)
            return y[..., 0], 1.0 + nn.functional.elu(y[..., 1]), probs

    def loss(outputs, target):
        mean, deviation, probs = outputs
        density = torch.distributions.Normal(mean, deviation, False)
        likelihood = (probs * density.log_prob(target).exp()).sum(1)
        return -likelihood.clamp(min=1e-6).log().mean()

    x, y = (torch.from_numpy(a) for a in data())
    torch.manual_seed(0)
    model = Mixture()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)

    def run():
        for _ in range(EPOCHS):
            order, total = torch.randperm(ROWS), 0.0
            for rows in order.split(BATCH):
                optimizer.zero_grad()
                value = loss(model(x[rows]), y[rows])
                value.backward()
                optimizer.step()
                total += value.item() * len(rows)
        return total / ROWS

    return run


def flax_loop():
    """Flax NNX: a jitted step, called once a batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import nnx

    class Mixture(nnx.Module):
        def __init__(self, rngs):
            self.backbone = nnx.Linear(1, 64, rngs=rngs)
            self.components = nnx.List(
                [nnx.Linear(64, 2, rngs=rngs) for _ in range(MIXTURE)]
            )
            self.gating = nnx.Linear(64, MIXTURE, rngs=rngs)

        def __call__(self, x):
            x = jax.nn.relu(self.backbone(x))
            y = jnp.stack([layer(x) for layer in self.components], 1)
            probs = jax.nn.softmax(self.gating(x))
            return y[..., 0], 1.0 + jax.nn.elu(y[..., 1]), probs

    def loss(model, x, y):
        mean, deviation, probs = model(x)
        density = jax.scipy.stats.norm.pdf(y, mean, deviation)
        likelihood = jnp.sum(probs * density, axis=1)
        return -jnp.mean(jnp.log(jnp.maximum(likelihood, 1e-6)))

    model = Mixture(nnx.Rngs(0))
    adam = optax.adam(1e-3, eps=1e-7)
    optimizer = nnx.Optimizer(model, adam, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        value, gradients = nnx.value_and_grad(loss)(model, x, y)
        optimizer.update(model, gradients)
        return value

    x, y = data()
    random = np.random.default_rng(0)

    def run():
        for _ in range(EPOCHS):
            order, values = random.permutation(ROWS), []
            for i in range(0, ROWS, BATCH):
                rows = order[i : i + BATCH]
                values.append(step(model, optimizer, x[rows], y[rows]))
            # One wait an epoch, as for Keras.
            total = float(jnp.mean(jnp.stack(values)))
        return total

    return run


def keras_fit(kind, **options):
    """The row of `fit.py`; its `fit` of some class, or its scan."""
    import fit

    work = fit.works()["article's model"]
    if kind == "scan":
        return work.scan()
    module = fit.kje if kind == "ours" else fit.keras
    return work.fit(module.Model, **options)


# Its title, the environment it needs (None: this one), and what makes it.
CONTENDERS = {
    "ours": ("keras_jax_ext", None, lambda: keras_fit("ours")),
    "stock": ("stock fit", None, lambda: keras_fit("stock")),
    "best": (
        "stock fit, steps_per_execution=46",
        None,
        lambda: keras_fit("stock", steps_per_execution=46),
    ),
    "scan": ("hand-written scan", None, lambda: keras_fit("scan")),
    "nightly": (
        "Keras nightly, steps_per_execution=46",
        "nightly",
        lambda: keras_fit("stock", steps_per_execution=46),
    ),
    "ours_nightly": (
        "keras_jax_ext on Keras nightly",
        "nightly",
        lambda: keras_fit("ours"),
    ),
    "torch": ("PyTorch, eager", "torch", torch_loop),
    "flax": ("Flax NNX, a jitted step", "flax", flax_loop),
}


def work(name):
    """Train whenever a line comes in; answer with the seconds it took."""
    run = CONTENDERS[name][2]()
    for _ in range(3):
        run()
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


def interpreter(environment, folder):
    """Python of an environment, made and filled if it is not there."""
    python = folder / environment / "bin" / "python"
    if not python.exists():
        subprocess.run(
            [sys.executable, "-m", "venv", folder / environment], check=True
        )
        subprocess.run(
            [python, "-m", "pip", "install", "-q", *NEEDS[environment]],
            check=True,
        )
    return python


def versions(python, packages):
    """What of the packages an interpreter has."""
    code = (
        "import sys, importlib.metadata as m; "
        "print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    )
    command = [python, "-c", code, *packages]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def started(name, python):
    """The process of a contender."""
    return subprocess.Popen(
        [python, "-W", "ignore", __file__, "--work", name],
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(process):
    """The seconds of one more round."""
    process.stdin.write("\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{process.args} ended: see its error above")
    return float(answer)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--env", type=Path, default=Path("build/others"))
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work:
        work(options.work)
        return
    given = dict(pair.split("=", 1) for pair in options.python)
    processes = {}
    for name, (_, environment, _) in CONTENDERS.items():
        python = sys.executable
        if environment:
            python = given.get(environment) or interpreter(
                environment, options.env
            )
        packages = NEEDS.get(environment, ["keras", "jax", "optax"])
        print(f"{CONTENDERS[name][0]}: {versions(python, packages)}")
        processes[name] = started(name, python)
    seconds = {name: [] for name in processes}
    for process in processes.values():
        asked(process)  # Warm by now.
    for _ in range(options.rounds):
        for name, process in processes.items():
            seconds[name].append(asked(process))
    ours = statistics.median(seconds["ours"])
    print(
        "\n| article's model | microseconds a step | of ours |\n|---|---|---|"
    )
    for name, values in seconds.items():
        median = statistics.median(values)
        title = CONTENDERS[name][0]
        print(f"| {title} | {median / STEPS * 1e6:.1f} | {median / ours:.2f} |")
    for process in processes.values():
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
