"""The engine of a torch package (.pt2): compiled code that torch loads and runs, without a model of ours."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipot.data.frame import species_index
from equipot.data.neighbours import SkinList
from equipot.data.pair_search import check_skin
from equipot.engine.package import read_package
from equipot.errors import UserError
from equipot.interfaces.engines import Evaluation

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64}


class PackageEngine:
    """Energies and derivatives by a torch package, of an ensemble the mean and the spread of its members.

    Loading a package runs code in it. The neighbour list is searched anew only when atoms have moved about half the skin.
    """

    name = "package"

    def __init__(self, path: Path, facts: dict[str, Any], device: str, skin: float) -> None:
        self.path, self.facts, self.device, self.skin = path, facts, device, check_skin(skin)
        self.elements = tuple(facts["elements"])
        self.dtype = facts["dtype"]
        self.uncertainties = tuple(name for name in ("energy_std", "forces_std") if name in facts["outputs"])
        self.run = load_function(path, facts, device)
        self._numbers: np.ndarray | None = None
        self._neighbours: SkinList | None = None

    @classmethod
    def open(cls, path: str | Path, dtype: str | None, device: str, skin: float) -> "PackageEngine":
        """From a file; raises UserError for one that is no package, is compiled for another device or dtype, or does not load here."""
        facts = read_package(path)
        if dtype not in (None, facts["dtype"]):
            raise UserError(f"{path}: a package of {facts['dtype']}: leave dtype out, or export the model as {dtype}")
        if device.split(":")[0] != facts["device"]:
            raise UserError(
                f"{path}: compiled for {facts['device']}, not for {device}: give device {facts['device']}, or export the model anew"
            )
        return cls(Path(path), facts, device, skin)

    @property
    def neighbours(self) -> SkinList | None:
        """The list of the structure evaluated last; None before the first."""
        return self._neighbours

    def evaluate(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, stress: bool) -> Evaluation:
        """See `Engine.evaluate`."""
        if self._numbers is None or not np.array_equal(self._numbers, numbers):
            species = species_index(numbers, list(self.elements), "the structure")
            limits = self.facts["pair_cutoff"]
            self._neighbours = SkinList(species, self.facts["cutoff"], self.skin, None if limits is None else torch.tensor(limits).double())
            self._numbers = np.array(numbers)
        graph = self._neighbours.update(positions, cell, pbc)
        found = self.run(
            positions=graph.positions,
            numbers=torch.from_numpy(self._numbers),
            cell=graph.cell,
            edge_index=torch.stack([graph.sender, graph.receiver]),
            shift=graph.shift,
            structure=graph.structure,
        )
        return Evaluation(
            energy=float(found["energy"][0]),
            energies=found["site_energy"].numpy(),
            forces=found["forces"].numpy(),
            stress=found["stress"][0].numpy() if stress else None,
            energy_std=float(found["energy_std"][0]) if self.uncertainties else None,
            forces_std=found["forces_std"].numpy() if self.uncertainties else None,
        )

    def __getstate__(self) -> dict:
        return self.__dict__ | {"run": None, "_numbers": None, "_neighbours": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.run = load_function(self.path, self.facts, self.device)


def load_function(path: Path, facts: dict[str, Any], device: str):
    """A function of the package's inputs by name, tensors of any strides, device and number type, to its outputs by name, on the CPU.

    Compiled code takes memory as it was told at compile time: a tensor that is not dense, or is of another type, would be read wrongly, without a word.
    """
    index = int(device.split(":")[1]) if ":" in device else -1
    try:
        loaded = torch._inductor.aoti_load_package(str(path), device_index=index)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"{path}: torch {torch.__version__} cannot load it ({str(error).splitlines()[0][:200]}): it was made with torch {facts['torch']}; "
            "export the model anew where it is to run"
        ) from None
    dtypes = {name: _DTYPES[meaning.split()[0]] for name, meaning in facts["inputs"].items()}

    def run(**inputs: Tensor) -> dict[str, Tensor]:
        # a copy: what is contiguous already may, without elements, have strides of its own
        given = [inputs[name].to(device, dtype).clone(memory_format=torch.contiguous_format) for name, dtype in dtypes.items()]
        return {name: value.cpu() for name, value in zip(facts["outputs"], loaded(*given), strict=True)}

    return run
