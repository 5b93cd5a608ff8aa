"""Steps of a simulation with nequip 0.19.1 (eager), in nequip's own environment: `python nequip_md.py JOB.json`, driven by `md.py`."""

import sys

import numpy as np
import torch
from nequip.utils.global_state import set_global_state
from nequip_steps import build
from worker import Job, serve, walk  # first: it finds make_nequip

from make_nequip import describe, evaluate  # isort: skip


def main() -> None:
    set_global_state()
    job = Job.read(sys.argv[1])
    atoms = job.frames[0]
    settings = {**job.settings, "type_names": job.symbols, "model_dtype": "float64"}
    exact = build(job, "float64")
    job.write_bundle(
        describe(exact, settings), {k: v.numpy() for k, v in exact.state_dict().items()}, {}, [(atoms, evaluate(exact, atoms, settings))]
    )
    model = build(job, job.dtype)
    model.load_state_dict(exact.state_dict())
    model.eval()
    rng = np.random.default_rng(0)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = evaluate(model, atoms, settings)
        return torch.from_numpy(found["energy"]), torch.from_numpy(found["forces"])

    def step() -> None:
        walk(atoms, rng)
        predict()

    serve(job, step, predict, n_edges=evaluate(model, atoms, settings)["n_edges"])


if __name__ == "__main__":
    main()
