"""Writes a bundle of a model that nequip saved: PYTHON nequip_bundle.py FILE BUNDLE.npz, with the Python of an environment that has nequip.

FILE is a training checkpoint (.ckpt; with an average of the weights, that average) or a package (.nequip.zip). Loading either runs what it says: that
is why it happens here and not in equipot. A model of single precision is evaluated in double: its parameters are taken as they are, its constants anew.
"""

from __future__ import annotations

import copy
import logging
import math
import os
import warnings
from pathlib import Path
from zipfile import is_zipfile

from bundle_format import Refused, require, require_same, run

INSTALL = "nequip==0.19.1"


def read(path: Path) -> tuple:
    """Meta, weights, buffers and the evaluation of the model in a file."""
    found = require("nequip", "0.19", INSTALL)
    check_container(path)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    import torch
    from nequip.utils.global_state import set_global_state

    set_global_state()
    saved = load(path).eval()
    single = str(saved.model_dtype) == "torch.float32"
    torch.set_default_dtype(torch.float64)
    model = double_precision(copy.deepcopy(saved)) if single else saved
    meta = {"package": f"nequip {found}", **settings(model)}
    if single:
        check_precision(saved, model, meta)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return meta, weights, {}, lambda atoms: evaluate(model, atoms, meta)


def check_container(path: Path) -> None:
    """Raises Refused for what is seen from outside not to be a saved model, before anything is loaded."""
    if path.suffix != ".ckpt" and not path.name.endswith(".nequip.zip"):
        raise Refused(f"{path}: neither a checkpoint (.ckpt) nor a package (.nequip.zip): compiled models (.pt2, .pth) hide their parts")
    if not is_zipfile(path):
        raise Refused(f"{path}: damaged, or not a file that nequip wrote")


def load(path: Path):
    """The model; raises Refused for what is none."""
    import torch
    from nequip.model.saved_models import load_saved_model

    folder = os.getcwd()
    try:
        models = load_saved_model(str(path), model_key=None)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        line = (str(error).splitlines() or [""])[0][:200]
        raise Refused(f"{path}: nequip cannot load it ({type(error).__name__}: {line})") from None
    finally:
        os.chdir(folder)
    names = list(models.keys()) if hasattr(models, "keys") else []
    if len(names) != 1:
        raise Refused(f"{path}: holds {len(names)} models ({', '.join(names)}), not one")
    model = models[names[0]]
    if not hasattr(model, "type_names") or not isinstance(model, torch.nn.Module):
        raise Refused(f"{path}: holds a {type(model).__name__}, not a model of nequip")
    return model


def settings(model) -> dict:
    """The hyper-parameters, as far as the printed modules do not say them."""
    from ase.data import atomic_numbers

    for name in model.type_names:
        if name not in atomic_numbers:
            raise Refused(f"the atom type {name} is no chemical symbol")
    net = model.model.func
    layers = [module for name, module in net.named_children() if name.endswith("_convnet")]
    missing = [name for name in ("edge_norm", "bessel_encode", "per_type_energy_scale_shift") if not hasattr(net, name)]
    if missing or not layers:
        raise Refused(f"a model of {', '.join(name for name, _ in net.named_children())} is not one that NequIPGNNModel builds")
    readout = net.per_type_energy_scale_shift
    found = {
        "atomic_numbers": [atomic_numbers[name] for name in model.type_names],
        "type_names": list(model.type_names),
        "edge_vector": "r_neighbour - r_centre",
        "modules": repr(model),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "r_max": float(net.edge_norm.r_max),
        "num_bessels": int(net.bessel_encode.num_bessels),
        "bessel_trainable": bool(net.bessel_encode.trainable),
        "polynomial_cutoff_p": float(net.bessel_encode.cutoff.p),
        "avg_num_neighbors": numbers_of_neighbours(layers, model.type_names),
        "per_type_energy_scales_trainable": is_trainable(readout, "scales"),
        "per_type_energy_shifts_trainable": is_trainable(readout, "shifts"),
        "convnet_resnet": [bool(layer.resnet) for layer in layers],
        "nonlinearities": [activations(layer.equivariant_nonlin) for layer in layers],
    }
    if hasattr(net, "pair_potential") and hasattr(net.pair_potential, "cutoff"):
        found["pair_potential"] = {"polynomial_cutoff_p": float(net.pair_potential.cutoff.p)}
    return found


def is_trainable(module, name: str) -> bool:
    return any(key == name and p.requires_grad and p.numel() for key, p in module.named_parameters())


def numbers_of_neighbours(layers: list, names: list[str]) -> float | dict:
    """N, or N of each type, from what the layers multiply by: 1/√N."""
    per_layer = [(1.0 / layer.conv.avg_num_neighbors_norm.norm_const.reshape(-1) ** 2).tolist() for layer in layers]
    if any(numbers != per_layer[0] for numbers in per_layer):
        raise Refused("layers that divide by different numbers of neighbours have no counterpart")
    numbers = per_layer[0]
    return numbers[0] if len(numbers) == 1 else dict(zip(names, numbers))  # noqa: B905 (Python 3.9 has no strict)


def activations(module) -> list[str]:
    """Names of a nonlinearity's functions, those of the scalars before those of the gates."""
    if hasattr(module, "scalar_nonlinearity"):
        return [module.scalar_nonlinearity.__name__]
    functions = [act for part in (module.act_scalars, module.act_gates) for act in part.acts]
    return [getattr(act, "f", act).__name__ for act in functions]


def double_precision(model):
    """The model in double precision: constants anew, and nothing cast back to single."""
    import torch

    model = model.double()
    for module in model.modules():
        for name in ("_output_dtype", "model_dtype"):
            if getattr(module, name, None) == torch.float32:
                setattr(module, name, torch.float64)
        alpha = getattr(module, "alpha", None)
        if isinstance(alpha, torch.Tensor) and hasattr(module, "in_features"):
            put(module, "alpha", nearest(float(alpha), [math.sqrt(g / module.in_features) for g in (1.0, 2.0)]))
        elif isinstance(alpha, torch.Tensor):  # a deep linear network: one factor for all its matrices
            put(module, "alpha", math.prod(weight.shape[0] ** -0.5 for weight in module.weights))
        for name, old in list(module.named_buffers(recurse=False)):
            if name.startswith("_w3j_"):
                put(module, name, wigner_3j(*map(int, name.split("_")[2:])).reshape(old.shape))
    return model


def nearest(value: float, candidates: list[float]) -> float:
    return min(candidates, key=lambda candidate: abs(candidate - value))


def wigner_3j(l1: int, l2: int, l3: int):
    """e3nn's, in double precision."""
    import torch
    from e3nn.o3._wigner import wigner_3j

    return wigner_3j(l1, l2, l3, dtype=torch.float64)


def put(module, name: str, value) -> None:
    """Set a buffer that should hold `value` already, to single precision."""
    import torch

    old = getattr(module, name)
    value = torch.as_tensor(value, dtype=torch.float64)
    if old.shape != value.shape or not torch.allclose(old.double(), value, rtol=1e-5, atol=1e-6):
        raise Refused(
            f"the {name} of a {type(module).__name__} is not what this version of nequip computes: it was saved by another, or changed"
        )
    old.copy_(value)


def check_precision(saved, model, meta: dict) -> None:
    """The saved model in its own precision against the one of double precision."""
    import torch
    from bundle_format import structures

    atoms = structures(meta["atomic_numbers"], meta["r_max"])[0]
    torch.set_default_dtype(torch.float32)
    single = evaluate(saved, atoms, meta)["forces"]
    torch.set_default_dtype(torch.float64)
    require_same(single, evaluate(model, atoms, meta)["forces"])


def evaluate(model, atoms, meta: dict) -> dict:
    """Energy, forces, stress where there is a cell, and the number of edges."""
    import torch
    from nequip.data import from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform

    symbols = meta["type_names"]
    types = ChemicalSpeciesToAtomTypeMapper(model_type_names=symbols, chemical_species_to_atom_type_map={s: s for s in symbols})
    edges = NeighborListTransform(r_max=meta["r_max"], per_edge_type_cutoff=cutoffs(model, symbols), type_names=symbols)
    data = edges(types(from_ase(atoms)))
    n_edges = data["edge_index"].shape[1]
    found = model(data)
    result = {"energy": found["total_energy"].reshape(1), "forces": found["forces"], "n_edges": torch.tensor(n_edges)}
    if atoms.pbc.all():
        result["stress"] = found["stress"]
    return {key: value.detach().numpy() for key, value in result.items()}


def cutoffs(model, symbols: list[str]) -> dict | None:
    """Cutoffs by the types of centre and neighbour, where there are any."""
    reciprocal = model.model.func.edge_norm._rmax_recip.reshape(-1)
    if len(reciprocal) == 1:
        return None
    rows = (1.0 / reciprocal).reshape(len(symbols), len(symbols)).tolist()
    return {a: {b: min(value, float(model.model.func.edge_norm.r_max)) for b, value in zip(symbols, row)} for a, row in zip(symbols, rows)}  # noqa: B905


if __name__ == "__main__":
    run(read)
