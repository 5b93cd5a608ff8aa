"""Training steps of nequip 0.19.1 (eager), in nequip's own environment: `python nequip_steps.py JOB.json`, driven by `cpu.py`."""

import sys

import torch
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state
from worker import Job, serve  # first: it finds make_nequip

from make_nequip import describe, evaluate  # isort: skip


def build(job: Job, dtype: str) -> torch.nn.Module:
    settings = {**job.settings, "seed": 3, "model_dtype": dtype, "type_names": job.symbols}
    model = NequIPGNNModel(**settings)
    return model["sole_model"] if isinstance(model, torch.nn.ModuleDict) else model


def main() -> None:
    set_global_state()
    job = Job.read(sys.argv[1])
    exact = build(job, "float64")
    settings = {**job.settings, "type_names": job.symbols, "model_dtype": "float64"}
    results = [(atoms, evaluate(exact, atoms, settings)) for atoms in job.frames[:2]]
    job.write_bundle(describe(exact, settings), {k: v.numpy() for k, v in exact.state_dict().items()}, {}, results)
    model = build(job, job.dtype)
    model.load_state_dict(exact.state_dict())
    types = ChemicalSpeciesToAtomTypeMapper(model_type_names=job.symbols, chemical_species_to_atom_type_map={s: s for s in job.symbols})
    edges = NeighborListTransform(r_max=settings["r_max"], type_names=job.symbols)
    batch = AtomicDataDict.batched_from_list([edges(types(from_ase(atoms))) for atoms in job.frames])
    energy, forces = job.labels()
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        found = model(dict(batch))
        return found["total_energy"].reshape(-1), found["forces"]

    def step() -> None:
        found_energy, found_forces = predict()
        loss = job.loss(found_energy, found_forces, energy, forces)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    serve(job, step, predict, n_edges=batch["edge_index"].shape[1])


if __name__ == "__main__":
    main()
