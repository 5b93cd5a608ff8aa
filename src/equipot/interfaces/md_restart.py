"""The restart file: everything a run needs to continue exactly, written whole or not at all. Reading one executes nothing."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.constraints import dict2constraint

from equipot.errors import UserError
from equipot.interfaces.md_settings import MDSettings
from equipot.whole_file import write_whole

if TYPE_CHECKING:
    from equipot.model import Potential

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Restart:
    """A run at one step: settings, atoms with momenta, the integrator's and the random state, and how far the files had grown."""

    settings: MDSettings
    step: int
    atoms: Atoms
    n_dof: int
    integrator: dict[str, np.ndarray]
    random: dict[str, Any]
    reference: float | None  # eV, the conserved quantity at step 0
    trajectory_mark: int
    log_mark: int
    model_hash: str

    def write(self, path: Path) -> None:
        """Write beside, fsync, rename."""
        atoms = self.atoms
        meta = {
            "version": _VERSION,
            "settings": self.settings.to_dict(),
            "step": self.step,
            "n_dof": self.n_dof,
            "random": self.random,
            "reference": self.reference,
            "trajectory_mark": self.trajectory_mark,
            "log_mark": self.log_mark,
            "model_hash": self.model_hash,
            "constraints": [c.todict() for c in atoms.constraints],
        }
        arrays = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
        arrays |= {name: atoms.get_array(name) for name in ("momenta", "masses") if atoms.has(name)}
        arrays |= {f"integrator.{name}": value for name, value in self.integrator.items()}
        buffer = io.BytesIO()
        np.savez(buffer, meta=np.array(json.dumps(meta, default=_plain)), **arrays)
        write_whole(path, buffer.getvalue())


def read_restart(path: Path) -> Restart:
    """The run in a restart file; raises UserError if there is none or it is damaged."""
    if not path.is_file():
        raise UserError(f"{path}: there is no restart file, so there is nothing to resume")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
        if meta.pop("version") > _VERSION:
            raise UserError(f"{path}: written by a newer equipot: update equipot")
        return _from_plain(meta, arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged or not a restart file ({type(error).__name__})") from None


def model_hash(model: "str | Path | Potential") -> str:
    """What tells one model from another: SHA-256 of its file, or of the weights of a potential; raises UserError if there is no file."""
    if isinstance(model, str | Path):
        try:
            return hashlib.sha256(Path(model).read_bytes()).hexdigest()
        except OSError:
            raise UserError(f"{model}: no such model file") from None
    digest = hashlib.sha256(json.dumps(model.spec.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _from_plain(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Restart:
    atoms = Atoms(**{name: arrays[name] for name in ("numbers", "positions", "cell", "pbc")})
    for name in ("momenta", "masses"):
        if name in arrays:
            atoms.set_array(name, arrays[name])
    atoms.set_constraint([dict2constraint(c) for c in meta.pop("constraints")])
    integrator = {name.removeprefix("integrator."): value for name, value in arrays.items() if name.startswith("integrator.")}
    return Restart(settings=MDSettings(**meta.pop("settings")), atoms=atoms, integrator=integrator, **meta)


def _plain(value: Any) -> Any:
    """numpy numbers and arrays in constraints and random states."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be kept in a restart file")
