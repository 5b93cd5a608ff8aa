"""Writes the packaged bundles of MACE: `python make_mace.py FOLDER [NAME …]` in an environment with mace-torch 0.3.16 (`make peers`)."""

import sys
from pathlib import Path

import torch
from mace import data, modules, tools  # before e3nn: it lets torch load e3nn's constants
from mace.tools import torch_geometric

from e3nn import o3  # isort: skip
from peer_structures import crystals, molecules, write_bundle

PLAIN = {"num_bessel": 5, "num_polynomial_cutoff": 5, "r_max": 4.2, "avg_num_neighbors": 11.7, "radial_MLP": [6], "MLP_irreps": "4x0e"}
CASES = {
    "mace_products_zbl_agnesi": (
        "ScaleShiftMACE",
        crystals(),
        {
            **{"hidden_irreps": "3x0e+3x1o", "max_ell": 2, "correlation": 3, "num_interactions": 2, "gate": "silu"},
            **{"interaction": "RealAgnosticResidualInteractionBlock", "interaction_first": "RealAgnosticInteractionBlock"},
            **{"pair_repulsion": True, "distance_transform": "Agnesi", "atomic_inter_scale": 1.4, "atomic_inter_shift": -0.2},
        },
    ),
    "mace_soft_gaussian": (
        "ScaleShiftMACE",
        molecules(),
        {
            **{"hidden_irreps": "4x0e+4x1o", "max_ell": 2, "correlation": 2, "num_interactions": 2, "gate": "silu"},
            **{"interaction": "RealAgnosticResidualInteractionBlock", "interaction_first": "RealAgnosticResidualInteractionBlock"},
            **{"radial_type": "gaussian", "distance_transform": "Soft", "atomic_inter_scale": 1.2, "atomic_inter_shift": 0.1},
        },
    ),
    "mace_density_parities": (
        "MACE",
        molecules(),
        {
            **{"hidden_irreps": "3x0e+3x0o+3x1o+3x1e", "max_ell": 2, "correlation": [2, 1, 2], "num_interactions": 3, "gate": "tanh"},
            **{"interaction": "RealAgnosticDensityResidualInteractionBlock", "interaction_first": "RealAgnosticDensityInteractionBlock"},
        },
    ),
}


def main(folder: Path, chosen: list[str]) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for name in chosen or CASES:
        kind, structures, options = CASES[name]
        torch.manual_seed(4)
        settings = {**PLAIN, **options}
        numbers = sorted({int(z) for atoms in structures for z in atoms.numbers})
        energies = [-1.0 - 0.7 * i for i in range(len(numbers))]
        model = build(kind, settings, numbers, energies)
        with torch.no_grad():
            for interaction in model.interactions:
                interaction.linear.weight.mul_(3.0)
        weights = {key: p.detach().numpy() for key, p in model.named_parameters()}
        buffers = {key: b.numpy() for key, b in model.named_buffers() if "U_matrix" in key}
        meta = {
            **{"package": "mace-torch 0.3.16", "model": kind, "edge_vector": "r_receiver - r_sender"},
            **{"atomic_numbers": numbers, "atomic_energies": energies, "modules": repr(model)},
            **{"n_parameters": sum(p.numel() for p in model.parameters()), **settings},
        }
        results = [(atoms, evaluate(model, atoms, numbers, settings["r_max"])) for atoms in structures]
        write_bundle(str(folder / f"{name}.npz"), meta, weights, buffers, results)


def build(kind: str, settings: dict, numbers: list[int], energies: list[float]) -> torch.nn.Module:
    """The model from plain settings."""
    arguments = {key: value for key, value in settings.items() if key not in ("interaction", "interaction_first")}
    arguments["hidden_irreps"], arguments["MLP_irreps"] = o3.Irreps(settings["hidden_irreps"]), o3.Irreps(settings["MLP_irreps"])
    arguments["gate"] = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}[settings["gate"]]
    return getattr(modules, kind)(
        interaction_cls=modules.interaction_classes[settings["interaction"]],
        interaction_cls_first=modules.interaction_classes[settings["interaction_first"]],
        num_elements=len(numbers),
        atomic_numbers=numbers,
        atomic_energies=torch.tensor(energies).numpy(),
        use_reduced_cg=False,
        **arguments,
    )


def evaluate(model: torch.nn.Module, atoms, numbers: list[int], cutoff: float) -> dict:
    """Energy, forces, stress where there is a cell, and the number of edges."""
    table = tools.AtomicNumberTable(numbers)
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=cutoff)
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
    periodic = bool(atoms.pbc.all())
    found = model(batch.to_dict(), compute_stress=periodic)
    result = {"energy": found["energy"], "forces": found["forces"], "n_edges": torch.tensor(batch.edge_index.shape[1])}
    if periodic:
        result["stress"] = found["stress"]
    return {key: value.detach().numpy() for key, value in result.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
