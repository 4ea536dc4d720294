"""Two processes train one model: each takes half of every batch, and both get the weights of one.

It trains alone, then starts itself twice with mpiexec, and compares. Without MPI it says what is
missing, and what the lines would do.
Run: python examples/20_two_processes.py        Then read: minswin/distributed.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from minswin import create_model, data_parallel, ops
from minswin.data.shapes import shapes
from minswin.distributed import Group, as_one, world
from minswin.training import AdamW, clip_gradients

STEPS, BATCH = 6, 7  # two ranks cannot share 7 images evenly: they take 3 and 4


def train(group):
    """A few steps in float64, with dropped paths; the losses and the weights."""
    model = create_model(
        "swin_shapes", rng=np.random.default_rng(0), dtype=np.float64, drop_path_rate=0.3
    )
    forward = data_parallel(model, 1, group)
    optimizer, losses = AdamW(model.named_parameters(), lr=1e-3), []
    pictures = shapes(STEPS * BATCH, seed=0)
    for x, labels in zip(
        np.split(pictures.images / 128.0 - 1, STEPS),
        np.split(pictures.labels, STEPS),
        strict=True,
    ):
        share = group.share(len(x))  # which rows are ours, and how much they count
        loss = ops.cross_entropy(forward(x[share.rows], share), labels[share.rows])
        model.zero_grad()
        (loss * share.weight).backward()  # gradients are summed while it runs
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        losses.append(group.all_reduce(np.array(loss.item() * share.weight)).item())
    return np.array(losses), np.concatenate([p.data.ravel() for p in model.parameters()])


def compare(group, file):
    """In each rank: train together, and look how far that is from training alone."""
    losses, weights = train(group)
    alone = np.load(file)
    everyone = group.all_gather(weights)
    if group.leads:
        print(f"{group.size} processes")
        for step, (ours, theirs) in enumerate(zip(losses, alone["losses"], strict=True)):
            print(f"  step {step + 1}   loss {ours:.12f}   alone {theirs:.12f}")
        print(f"all ranks have the same bits: {bool((everyone == everyone[0]).all())}")
        print(
            f"farthest from the weights of one process: {abs(weights - alone['weights']).max():.1e}"
        )
        assert abs(weights - alone["weights"]).max() < 1e-9


if len(sys.argv) > 1:
    group = world()
    with as_one(group):  # an error in one ends both
        compare(group, sys.argv[1])
else:
    losses, weights = train(Group())
    print(f"one process: losses {losses.round(4).tolist()}", flush=True)
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.is_file() else shutil.which("mpiexec")
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "alone.npz", losses=losses, weights=weights)
        line = [str(mpiexec), "-n", "2", sys.executable, __file__, f"{folder}/alone.npz"]
        if mpiexec is None:
            print('there is no mpiexec: pip install "minswin[mpi]"; then this would run:')
            print(" ".join(line))
        else:
            subprocess.run(line, check=True)
