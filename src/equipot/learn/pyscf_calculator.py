"""Molecules by density functional theory with PySCF, as an ASE calculator."""

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes

from equipot.errors import MissingPackageError, UserError


class PySCF(Calculator):
    """Restricted (or, with magnetic moments, unrestricted) Kohn-Sham energies and forces of molecules, with density fitting.

    Args: xc and basis as PySCF names them; auxbasis of the fit, or None for PySCF's own choice; grid_level 0 to 9; conv_tol in hartree;
    max_cycle; charge. The number of unpaired electrons is the sum of the initial magnetic moments. eV, eV/Å.
    Raises RuntimeError where the field does not converge and UserError for a periodic structure.
    """

    implemented_properties = ["energy", "free_energy", "forces"]

    def __init__(
        self,
        xc: str = "pbe",
        basis: str = "def2-svp",
        auxbasis: str | None = None,
        grid_level: int = 3,
        conv_tol: float = 1e-9,
        max_cycle: int = 100,
        charge: int = 0,
    ) -> None:
        super().__init__()
        try:
            import pyscf  # noqa: F401
        except ImportError:
            raise MissingPackageError("pyscf", "data") from None
        self.parameters.update(
            xc=xc, basis=basis, auxbasis=auxbasis, grid_level=grid_level, conv_tol=conv_tol, max_cycle=max_cycle, charge=charge
        )

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes) -> None:
        """Fills `results`; see the class for what raises."""
        super().calculate(atoms, properties, system_changes)
        if self.atoms.pbc.any():
            raise UserError("label.calculator pyscf is for molecules: this structure is periodic")
        field = self._field()
        field.kernel()
        if not field.converged:
            raise RuntimeError(f"the self-consistent field has not converged in {self.parameters['max_cycle']} cycles")
        energy = float(field.e_tot) * units.Hartree
        self.results = {"energy": energy, "free_energy": energy, "forces": np.zeros((len(self.atoms), 3))}
        if len(self.atoms) > 1:
            gradient = field.nuc_grad_method()
            gradient.grid_response = True  # else the moving grid leaves a net force
            self.results["forces"] = -np.asarray(gradient.kernel()) * units.Hartree / units.Bohr

    def _field(self) -> Any:
        from pyscf import dft, gto

        given = self.parameters
        spin = round(abs(float(self.atoms.get_initial_magnetic_moments().sum())))
        where = list(zip(self.atoms.get_chemical_symbols(), self.atoms.positions / units.Bohr, strict=True))
        molecule = gto.M(atom=where, unit="Bohr", basis=given["basis"], spin=spin, charge=given["charge"], verbose=0)
        field = (dft.UKS(molecule) if spin else dft.RKS(molecule)).density_fit(auxbasis=given["auxbasis"])
        field.xc, field.grids.level, field.conv_tol, field.max_cycle = (
            given["xc"],
            given["grid_level"],
            given["conv_tol"],
            given["max_cycle"],
        )
        return field
