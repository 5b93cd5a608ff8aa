"""Writes the packaged bundles of nequip: `python make_nequip.py FOLDER [NAME …]` in an environment with nequip 0.19.1 (`make peers`)."""

import sys
from pathlib import Path

import torch
from ase.data import atomic_numbers
from nequip.data import from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import FullNequIPGNNModel, NequIPGNNModel
from nequip.utils.global_state import set_global_state
from peer_structures import crystals, molecules, write_bundle

PLAIN = {"num_bessels": 8, "polynomial_cutoff_p": 6, "avg_num_neighbors": 11.7}
ODD = {"feature_irreps_hidden": ["4x0e+2x0o+3x1o+2x1e", "3x0o+3x1o+2x1e+2x2e", "4x0e"], "irreps_edge_sh": "1x0e+1x1o+1x2e"}
CASES = {
    "nequip_parity_zbl": (
        NequIPGNNModel,
        crystals(),
        ["O", "Cu"],
        {
            **{
                "l_max": 2,
                "parity": True,
                "num_features": [4, 3, 2],
                "num_layers": 3,
                "r_max": 4.2,
                "radial_mlp_width": 6,
                "radial_mlp_depth": 2,
            },
            **{
                "zbl": True,
                "num_bessels": 5,
                "bessel_trainable": True,
                "polynomial_cutoff_p": 5,
                "avg_num_neighbors": {"O": 9.0, "Cu": 13.0},
            },
            **{"readout_mlp_hidden_layers_depth": 1, "readout_mlp_hidden_layers_width": 3, "readout_mlp_nonlinearity": "mish"},
        },
    ),
    "nequip_odd_gates": (
        FullNequIPGNNModel,
        molecules(),
        ["H", "C", "O"],
        {
            **{
                "r_max": 4.0,
                "radial_mlp_depth": [1, 2, 1],
                "radial_mlp_width": [5, 6, 7],
                "type_embed_num_features": 4,
                "learnable_shift": True,
            },
            **ODD,
        },
    ),
    "nequip_norms_resnet": (
        FullNequIPGNNModel,
        crystals(),
        ["O", "Cu"],
        {
            **{"r_max": 4.2, "radial_mlp_depth": [1, 1, 1, 1], "radial_mlp_width": [6, 6, 6, 6], "type_embed_num_features": 4},
            **{"feature_irreps_hidden": [*["4x0e+3x1o+2x2e"] * 3, "4x0e"], "irreps_edge_sh": "1x0e+1x1o+1x2e"},
            **{"convnet_nonlinearity_type": "norm", "convnet_resnet": True},
        },
    ),
    "nequip_norms": (
        NequIPGNNModel,
        molecules(),
        ["H", "C", "O"],
        {
            **{"l_max": 2, "num_features": 3, "num_layers": 3, "r_max": 4.0, "radial_mlp_width": 6, "parity": True},
            "convnet_nonlinearity_type": "norm",
        },
    ),
    "nequip_pair_cutoffs": (
        NequIPGNNModel,
        molecules(),
        ["H", "C", "O"],
        {
            **{"l_max": 1, "num_features": 4, "num_layers": 2, "r_max": 4.0, "radial_mlp_width": 6, "parity": False},
            "per_edge_type_cutoff": {"H": 2.5, "C": {"H": 3.0, "O": 3.5}},
        },
    ),
}


def main(folder: Path, chosen: list[str]) -> None:
    set_global_state()
    torch.set_num_threads(1)
    for name in chosen or CASES:
        builder, structures, symbols, options = CASES[name]
        settings = {**PLAIN, "seed": 3, "model_dtype": "float64", "type_names": symbols, **options}
        settings["per_type_energy_scales"] = {s: 1.5 + 0.3 * i for i, s in enumerate(symbols)}
        settings["per_type_energy_shifts"] = {s: -1.0 - 0.7 * i for i, s in enumerate(symbols)}
        arguments = {key: value for key, value in settings.items() if key != "zbl"}
        if settings.get("zbl"):
            arguments["pair_potential"] = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": symbols}
        model = builder(**arguments)
        model = model["sole_model"] if isinstance(model, torch.nn.ModuleDict) else model
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.mul_(1.02 if "bessel_weights" in key else 1.5)
        model.eval()
        results = [(atoms, evaluate(model, atoms, settings)) for atoms in structures]
        write_bundle(
            str(folder / f"{name}.npz"), describe(model, settings), {k: v.numpy() for k, v in model.state_dict().items()}, {}, results
        )


def describe(model: torch.nn.Module, settings: dict) -> dict:
    """What identifies a bundle, the hyper-parameters and the printed modules."""
    return {
        "package": "nequip 0.19.1",
        "atomic_numbers": [atomic_numbers[s] for s in settings["type_names"]],
        "edge_vector": "r_neighbour - r_centre",
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "modules": repr(model),
        **settings,
    }


def evaluate(model: torch.nn.Module, atoms, settings: dict) -> dict:
    """Energy, forces, stress where there is a cell, and the number of edges."""
    symbols = settings["type_names"]
    types = ChemicalSpeciesToAtomTypeMapper(model_type_names=symbols, chemical_species_to_atom_type_map={s: s for s in symbols})
    edges = NeighborListTransform(r_max=settings["r_max"], per_edge_type_cutoff=settings.get("per_edge_type_cutoff"), type_names=symbols)
    data = edges(types(from_ase(atoms)))
    n_edges = data["edge_index"].shape[1]
    found = model(data)
    result = {"energy": found["total_energy"].reshape(1), "forces": found["forces"], "n_edges": torch.tensor(n_edges)}
    if atoms.pbc.all():
        result["stress"] = found["stress"]
    return {key: value.detach().numpy() for key, value in result.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
