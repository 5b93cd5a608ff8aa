"""What computes energies and forces for a calculator: the engine. Everything above it is independent of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from equipot.errors import UserError

if TYPE_CHECKING:
    from equipot.model import Potential

ENGINES = ("auto", "torch", "native")


class Evaluation(NamedTuple):
    """Results for one structure of n atoms, float64."""

    energy: float  # eV
    energies: np.ndarray  # (n,) eV, their sum is the energy
    forces: np.ndarray  # (n, 3) eV/Å
    stress: np.ndarray | None  # (3, 3) eV/Å³, tensile positive; None where it was not asked


class Engine(Protocol):
    """One loaded model; it keeps its own neighbour list between calls."""

    name: str
    elements: tuple[int, ...]  # atomic numbers the model knows
    dtype: str  # of the weights, "float32" or "float64"

    def evaluate(self, numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, stress: bool) -> Evaluation:
        """Numbers (n,), positions (n, 3) Å, cell (3, 3) Å by rows, pbc (3,) bool; raises UserError for what the model cannot compute."""
        ...


def open_engine(
    model: "str | Path | Potential", engine: str = "auto", dtype: str | None = None, device: str = "cpu", skin: float = 1.0
) -> Engine:
    """The engine for a model file or a potential.

    engine: "torch", "native" or "auto" for the best there is; dtype "float32", "float64" or None for the one of the file; skin in Å.
    Raises UserError for an engine, dtype or device that is not there and for a file that is not a model.
    """
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r} is not known: one of {', '.join(ENGINES)}")
    if engine == "native":
        raise UserError("engine 'native' is not available in this version: use engine='torch' or leave it out")
    from equipot.interfaces.torch_engine import TorchEngine

    return TorchEngine.open(model, dtype, device, skin)
