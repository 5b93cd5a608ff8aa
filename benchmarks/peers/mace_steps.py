"""Training steps of mace-torch 0.3.16, in mace's own environment: `python mace_steps.py JOB.json`, driven by `cpu.py`."""

import sys

import torch
from mace import data, tools
from mace.tools import torch_geometric
from worker import Job, serve  # first: it finds make_mace

from make_mace import build, evaluate  # isort: skip


def bundle_of(job: Job) -> tuple[torch.nn.Module, list[int]]:
    """The job's model in float64, its weights written as a bundle, and its atomic numbers."""
    numbers = sorted({int(z) for atoms in job.frames for z in atoms.numbers})
    energies = [-1.0 - 0.7 * i for i in range(len(numbers))]
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(4)
    model = build("ScaleShiftMACE", job.settings, numbers, energies)
    weights = {key: p.detach().numpy().copy() for key, p in model.named_parameters()}
    buffers = {key: b.numpy().copy() for key, b in model.named_buffers() if "U_matrix" in key}
    meta = {
        **{"package": "mace-torch 0.3.16", "model": "ScaleShiftMACE", "edge_vector": "r_receiver - r_sender"},
        **{"atomic_numbers": numbers, "atomic_energies": energies, "modules": repr(model)},
        **{"n_parameters": sum(p.numel() for p in model.parameters()), **job.settings},
    }
    job.write_bundle(meta, weights, buffers, [(atoms, evaluate(model, atoms, numbers, job.settings["r_max"])) for atoms in job.frames[:2]])
    return model, numbers


def main() -> None:
    job = Job.read(sys.argv[1])
    model, numbers = bundle_of(job)
    dtype = getattr(torch, job.dtype)
    torch.set_default_dtype(dtype)
    model = model.to(dtype)
    table = tools.AtomicNumberTable(numbers)
    graphs = [data.AtomicData.from_config(data.config_from_atoms(a), z_table=table, cutoff=job.settings["r_max"]) for a in job.frames]
    batch = next(iter(torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs))))
    energy, forces = job.labels()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(batch.to_dict(), training=True)
        return found["energy"], found["forces"]

    def step() -> None:
        found_energy, found_forces = predict()
        loss = job.loss(found_energy, found_forces, energy, forces)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    serve(job, step, predict, n_edges=batch.edge_index.shape[1])


if __name__ == "__main__":
    main()
