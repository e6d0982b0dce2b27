"""One model in several processes, each of which has a part of the data.

Every process knows one piece of a curve, and all train one network: a batch is
what they give together, and so they learn the whole curve. If one of them is
killed, the others end; started again, they go on where they were.

    python examples/multi_process.py --processes 2

starts two processes on this machine. On a cluster start it once for each
process, without `--processes`: JAX asks Slurm, Kubernetes or MPI who they are.

    srun python examples/multi_process.py
"""

import argparse
import socket
import subprocess
import sys
from pathlib import Path

import keras_jax_ext as kje  # first: selects the JAX backend
from keras_jax_ext import layers

import jax
import keras
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

ROWS = 512  # of each process


class Curve(kje.Model):
    """Two hidden layers."""

    def call(self, x):
        for _ in range(2):
            x = layers.Dense(64, activation="tanh")(x)
        return layers.Dense(1)(x)


def piece(process, processes):
    """The piece of a noisy sine that a process has."""
    random = np.random.default_rng(process)
    ends = np.linspace(-3, 3, processes + 1)
    x = random.uniform(*ends[process : process + 2], (ROWS, 1))
    y = np.sin(2 * x) + 0.1 * random.normal(size=x.shape)
    return x.astype("float32"), y.astype("float32")


def parse(argv):
    """Command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, help="how many to start here")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--quick", action="store_true", help="50 epochs")
    # Of the processes that this script starts.
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs = 50
    return args


def start(args, argv):
    """Run this script in several processes; returns the first exit code."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, __file__, *argv, "--address", address]
    each = [
        subprocess.Popen([*command, "--number", str(number)])
        for number in range(args.processes)
    ]
    return max(abs(process.wait()) for process in each)


def draw(path, points, curve, processes):
    """The pieces of all processes, and the curve that they learned."""
    plt.figure(figsize=(7, 4))
    for process in range(processes):
        x, y = piece(process, processes)
        plt.plot(x, y, ".", ms=3, label=f"the data of process {process}")
    plt.plot(points, curve, "k", label="what each of them learned")
    plt.ylim(-1.5, 2.2)
    plt.legend(frameon=False)
    plt.tight_layout()
    plt.savefig(path, dpi=110)
    plt.close()


def main(argv=None):
    """Train; the first process draws. Returns an exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    if args.processes and args.address is None:
        return start(args, argv)
    # Before anything else: a process that died is found within a minute.
    jax.distributed.initialize(
        args.address,
        args.processes,
        args.number,
        heartbeat_timeout_seconds=30,
        shutdown_timeout_seconds=60,
    )
    # Each process reads its own data.
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    # The same in all: the weights of each begin alike.
    keras.utils.set_random_seed(args.seed)
    me, processes = jax.process_index(), jax.process_count()
    x, y = piece(me, processes)
    args.out.mkdir(parents=True, exist_ok=True)

    model = Curve()
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    history = model.fit(
        x,
        y,
        batch_size=64,
        epochs=args.epochs,
        callbacks=[kje.callbacks.BackupAndRestore(args.out / "backup")],
        verbose=0,
    ).history
    model.save(args.out / "multi_process.keras")  # the first writes it
    # Each gets the predictions of its own rows: of all points, in all of them.
    points = np.linspace(-3.2, 3.2, 300, dtype="float32")[:, None]
    curve = model.predict(points, verbose=0)
    if me == 0:
        first, last = history["loss"][0], history["loss"][-1]
        print(f"{processes} processes: loss {first:.4f}, then {last:.4f}")
        draw(args.out / "multi_process.png", points, curve, processes)
        print(f"figure: {args.out / 'multi_process.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
