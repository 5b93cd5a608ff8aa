"""Weights of other programs, read from bundles, as ordinary equipot models: the point of the design space, and the tensors it has."""

from pathlib import Path
from typing import Any

import torch

from equipot.errors import UserError
from equipot.model.importers.botnet import botnet_spec, botnet_weights
from equipot.model.importers.bundle import Bundle, read_bundle
from equipot.model.importers.convert import fill
from equipot.model.importers.mace import mace_spec, mace_weights
from equipot.model.importers.nequip import nequip_spec, nequip_weights
from equipot.model.potential import Potential

__all__ = ["Bundle", "import_bundle", "read_bundle"]

_PROGRAMS = {"gncs/botnet": (botnet_spec, botnet_weights), "nequip": (nequip_spec, nequip_weights), "mace-torch": (mace_spec, mace_weights)}


def import_bundle(bundle: str | Path | Bundle, backend: str = "auto") -> tuple[Potential, dict[str, Any]]:
    """The potential of a bundle, float64, and a report: where it comes from and what of it was left out because nothing reads it.

    Raises UserError, naming it, for anything that cannot be expressed: nothing is approximated.
    """
    if not isinstance(bundle, Bundle):
        bundle = read_bundle(bundle)
    package = str(bundle.need("package"))
    program = next((functions for name, functions in _PROGRAMS.items() if package.split()[0] == name), None)
    if program is None:
        raise UserError(f"{bundle.path}: bundles of {package!r} are not known; known are {', '.join(_PROGRAMS)}")
    spec_of, weights_of = program
    try:
        spec = spec_of(bundle)
        potential = Potential(spec, dtype=torch.float64, backend=backend)
        fill(potential, weights_of(bundle, spec))
    except UserError as error:
        if str(error).startswith(str(bundle.path)):
            raise
        raise UserError(f"{bundle.path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{bundle.path}: not understood: {_first_line(error)}") from error
    if leftover := bundle.leftover():
        raise bundle.refuse(f"the weight {leftover[0]}")
    report = {"package": package, "source": bundle.path.name, "original_parameters": bundle.get("n_parameters")}
    return potential.eval(), report


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__} {error}".splitlines()[0]
