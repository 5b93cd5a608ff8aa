"""Steps of a simulation with mace-torch 0.3.16, in mace's own environment: `python mace_md.py JOB.json`, driven by `md.py`."""

import sys

import numpy as np
import torch
from mace_steps import bundle_of
from worker import Job, serve, walk  # first: it finds make_mace

from make_mace import evaluate  # isort: skip


def main() -> None:
    job = Job.read(sys.argv[1])
    atoms = job.frames[0]
    model, numbers = bundle_of(job)
    dtype = getattr(torch, job.dtype)
    torch.set_default_dtype(dtype)
    model = model.to(dtype).eval()
    rng = np.random.default_rng(0)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = evaluate(model, atoms, numbers, job.settings["r_max"])
        return torch.from_numpy(found["energy"]), torch.from_numpy(found["forces"])

    def step() -> None:
        walk(atoms, rng)
        predict()

    serve(job, step, predict, n_edges=evaluate(model, atoms, numbers, job.settings["r_max"])["n_edges"])


if __name__ == "__main__":
    main()
