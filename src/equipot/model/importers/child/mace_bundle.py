"""Writes a bundle of a model that mace-torch saved: PYTHON mace_bundle.py FILE.model BUNDLE.npz, with the Python of an environment that has mace-torch.

Loading such a file runs what it says (it is a pickle): that is why it happens here and not in equipot. A model of single precision is evaluated in
double: its parameters are taken as they are, its constants (radial functions, couplings) anew.
"""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from zipfile import ZipFile, is_zipfile

from bundle_format import Refused, require, require_same, run

INSTALL = "e3nn==0.4.4 mace-torch==0.3.16"


def read(path: Path) -> tuple:
    """Meta, weights, buffers and the evaluation of the model in a file."""
    found = require("mace-torch", "0.3", INSTALL)
    require("e3nn", "0.4.4", INSTALL)
    check_container(path)
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # torch >= 2.6 otherwise refuses e3nn's own constants
    warnings.simplefilter("ignore")
    import torch

    saved = load(path)
    torch.set_default_dtype(torch.float64)
    model = copy.deepcopy(saved).double()
    renew(model)
    numbers = [int(z) for z in model.atomic_numbers]
    cutoff = nominal(float(saved.r_max))
    check_precision(saved, model, numbers, cutoff)
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    buffers = {name: b.numpy() for name, b in model.named_buffers() if "U_matrix" in name}
    meta = {"package": f"mace-torch {found}", "r_max": cutoff, "atomic_numbers": numbers, **settings(model)}
    return meta, weights, buffers, lambda atoms: evaluate(model, atoms, numbers, cutoff)


def check_container(path: Path) -> None:
    """Raises Refused for what is seen from outside not to be a saved model, before anything is loaded."""
    with open(path, "rb") as file:
        if file.read(1) not in (b"P", b"\x80"):
            raise Refused(f"{path}: not a file that torch.save wrote")
    if is_zipfile(path) and any(name.split("/")[1:2] == ["code"] for name in ZipFile(path).namelist()):
        raise Refused(f"{path}: a compiled model, which hides its parts: give the .model file that mace_run_train writes beside it")


def load(path: Path):
    """The model; raises Refused for what is none."""
    import torch

    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise Refused(f"{path}: not a file that torch.save wrote, or of modules that are not installed ({type(error).__name__})") from None
    if isinstance(model, dict):
        raise Refused(f"{path}: a checkpoint, which lacks the model's settings: give the .model file that mace_run_train writes at its end")
    if not type(model).__module__.startswith("mace.") or not hasattr(model, "interactions"):
        raise Refused(f"{path}: holds a {type(model).__name__}, not a model of mace")
    heads = list(getattr(model, "heads", None) or ["Default"])
    if len(heads) > 1:
        raise Refused(f"{path}: a model of {len(heads)} heads ({', '.join(heads)}): take one of them out first, with mace_select_head")
    if getattr(model.products[0], "cueq_config", None) is not None:
        raise Refused(f"{path}: a model for cuEquivariance: convert it first, with mace_cueq_to_e3nn")
    return model


def settings(model) -> dict:
    """The hyper-parameters, as far as the printed modules do not say them."""
    radial = model.radial_embedding
    numbers = {float(block.avg_num_neighbors) for block in model.interactions}
    if len(numbers) > 1:
        raise Refused(f"layers that divide by different numbers of neighbours ({', '.join(map(str, sorted(numbers)))}) have no counterpart")
    found = {
        "model": type(model).__name__,
        "edge_vector": "r_receiver - r_sender",
        "modules": repr(model),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "num_bessel": int(radial.out_dim),
        "num_polynomial_cutoff": int(radial.cutoff_fn.p),
        "max_ell": int(model.spherical_harmonics._lmax),
        "num_interactions": len(model.interactions),
        "correlation": [len(p.symmetric_contractions.contractions[0].weights) + 1 for p in model.products],
        "avg_num_neighbors": numbers.pop(),
        "atomic_energies": model.atomic_energies_fn.atomic_energies.reshape(-1).tolist(),
        "gate": gate(model.readouts[-1]),
        "apply_cutoff": bool(getattr(model, "apply_cutoff", True)),
        "use_so3": bool(getattr(model, "use_so3", False)),
        "use_agnostic_product": bool(getattr(model, "use_agnostic_product", False)),
    }
    if hasattr(model, "scale_shift"):
        found["atomic_inter_scale"] = float(model.scale_shift.scale)
        found["atomic_inter_shift"] = float(model.scale_shift.shift)
    return found


def gate(readout) -> str:
    """Name of the last readout's activation."""
    activations = getattr(getattr(readout, "non_linearity", None), "acts", [None])
    function = getattr(activations[0], "f", None)
    return "None" if function is None else function.__name__


def nominal(value: float) -> float:
    """4.2 for 4.199999809, the single-precision number next to it; double-precision numbers as they are."""
    import numpy as np

    return float(str(np.float32(value))) if float(np.float32(value)) == value else value


def renew(model) -> None:
    """Every constant that single precision may have rounded, in double precision; raises Refused where it is not what mace computes."""
    import torch

    for module in model.modules():
        for name, value in constants(module).items():
            put(module, name, value)
    for module in model.modules():
        for name, old in list(module.named_buffers(recurse=False)):
            if name.startswith("_w3j_"):
                from e3nn import o3

                put(module, name, o3.wigner_3j(*map(int, name.split("_")[2:]), dtype=torch.float64).reshape(old.shape))


def put(module, name: str, value) -> None:
    """Set a buffer that should hold `value` already, to single precision."""
    import torch

    old = getattr(module, name)
    value = torch.as_tensor(value, dtype=torch.float64)
    if old.shape != value.shape or not torch.allclose(old.double(), value, rtol=1e-5, atol=1e-6):
        raise Refused(
            f"the {name} of a {type(module).__name__} is not what this version of mace computes: it was saved by another, or changed"
        )
    old.copy_(value)


def constants(module) -> dict:
    """Buffer → value in double precision, of the modules that have constants."""
    import numpy as np
    import torch

    kind, found = type(module).__name__, {}
    if hasattr(module, "r_max") and isinstance(module.r_max, torch.Tensor):
        found["r_max"] = cutoff = nominal(float(module.r_max))
    if kind == "BesselBasis":
        if not module.bessel_weights.requires_grad:
            found["bessel_weights"] = np.pi / cutoff * np.arange(1, len(module.bessel_weights) + 1)
        found["prefactor"] = np.sqrt(2.0 / cutoff)
    if kind == "GaussianBasis":
        n = len(module.gaussian_weights)
        found["gaussian_weights"] = np.linspace(0.0, round((n - 1) / np.sqrt(-2.0 * module.coeff), 6), n)
    if kind in ("AgnesiTransform", "SoftTransform", "ZBLBasis"):
        from ase.data import covalent_radii

        found["covalent_radii"] = covalent_radii
        names = {"AgnesiTransform": "q p a", "SoftTransform": "alpha", "ZBLBasis": "c a_exp a_prefactor"}[kind].split()
        found.update({name: [nominal(float(v)) for v in getattr(module, name).reshape(-1)] for name in names})
        found.update({name: found[name][0] for name in names if getattr(module, name).ndim == 0})
    if kind == "Contraction":
        found.update(coupling_tensors(module))
    return found


def coupling_tensors(contraction) -> dict:
    """The tensors U of a product, which say themselves to which irrep they couple: it is looked for among those of their shape."""
    import torch
    from e3nn import o3
    from mace.tools.cg import U_matrix_real

    found = {}
    for nu in range(1, contraction.correlation + 1):
        name = f"U_matrix_{nu}"
        old = getattr(contraction, name).double()
        l = (old.shape[0] - 1) // 2 if old.ndim == nu + 2 else 0
        for p in ((-1) ** l, -((-1) ** l)):
            target = o3.Irreps([(1, (l, p))])
            new = U_matrix_real(contraction.coupling_irreps, target, nu, use_cueq_cg=False, dtype=torch.float64)[-1]
            if new.shape == old.shape and torch.allclose(new, old, rtol=1e-5, atol=1e-6):
                found[name] = new
                break
        else:
            raise Refused(
                "its coupling tensors are not those this environment computes: if it has cuequivariance, save the model without reduced CG"
            )
    return found


def check_precision(saved, model, numbers: list[int], cutoff: float) -> None:
    """The saved model in its own precision against the one of double precision."""
    import torch
    from bundle_format import structures

    dtype = next(saved.parameters()).dtype
    atoms = structures(numbers, cutoff)[0]
    torch.set_default_dtype(dtype)
    single = evaluate(saved, atoms, numbers, cutoff)["forces"]
    torch.set_default_dtype(torch.float64)
    require_same(single, evaluate(model, atoms, numbers, cutoff)["forces"])


def evaluate(model, atoms, numbers: list[int], cutoff: float) -> dict:
    """Energy, forces, stress where there is a cell, and the number of edges."""
    import torch
    from mace import data, tools
    from mace.tools import torch_geometric

    table = tools.AtomicNumberTable(numbers)
    graph = data.AtomicData.from_config(data.config_from_atoms(atoms), z_table=table, cutoff=cutoff)
    batch = next(iter(torch_geometric.dataloader.DataLoader([graph], batch_size=1)))
    periodic = bool(atoms.pbc.all())
    found = model(batch.to_dict(), compute_stress=periodic)
    wanted = ("energy", "forces", "stress") if periodic else ("energy", "forces")
    result = {name: found[name].detach().numpy() for name in wanted}
    return {**result, "n_edges": torch.tensor(batch.edge_index.shape[1]).numpy()}


if __name__ == "__main__":
    run(read)
