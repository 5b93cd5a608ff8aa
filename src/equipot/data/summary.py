"""What a data set holds, as plain data and as a table."""

from typing import Any

from rich.table import Table

from equipot.data.dataset import DataSet
from equipot.data.elements import separate_isolated
from equipot.data.frame import Frame, elements_of
from equipot.data.references import References, reference_energies
from equipot.data.statistics import statistics
from equipot.errors import UserError


def summary(frames: list[Frame], cutoff: float) -> dict[str, Any]:
    """Counts, reference energies and statistics of frames (isolated atoms among them give E0), as plain data for JSON.

    `cutoff` in Å is for the numbers of neighbours. Raises UserError if there are isolated atoms only.
    """
    structures, isolated = separate_isolated(frames)
    if not structures:
        raise UserError("isolated atoms only: name a file of structures too")
    elements = elements_of(structures)
    if any(f.energy is not None for f in structures):
        references = reference_energies(structures, isolated)
    else:
        references = References(dict.fromkeys(elements, 0.0), "given", "no frame has an energy")
    found = statistics(DataSet(structures, elements, cutoff), references)
    return {
        "cutoff": cutoff,
        "references": references.energies,
        "references_kind": references.kind,
        "config_types": config_types(structures),
        **found.to_dict(),
    }


def config_types(frames: list[Frame]) -> dict[str, int]:
    """How many frames there are of each config type."""
    kinds: dict[str, int] = {}
    for frame in frames:
        kinds[frame.config_type] = kinds.get(frame.config_type, 0) + 1
    return kinds


def summary_table(found: dict[str, Any]) -> Table:
    """A summary for a rich console."""
    table = Table(show_header=False)
    table.add_row("structures, atoms", f"{found['n_structures']}, {found['n_atoms']}")
    table.add_row("with energy, forces, stress", f"{found['n_energies']}, {found['n_forces']}, {found['n_stresses']}")
    table.add_row("atoms by element", _listed(found["atoms_by_element"], "d"))
    table.add_row("config_type", _listed(found["config_types"], "d"))
    table.add_row("force RMS (eV/Å)", f"{_one(found['rms_forces'], '.4f')}  ({_listed(found['rms_forces_by_element'], '.4f')})")
    table.add_row("E0 (eV)", f"{_listed(found['references'], '.6f')}  ({found['references_kind']})")
    table.add_row(
        "energy less E0 (eV/atom)", f"mean {_one(found['mean_interaction'], '.5f')}, spread {_one(found['std_interaction'], '.5f')}"
    )
    neighbours = f"{_one(found['mean_neighbours'], '.2f')}  ({_listed(found['neighbours_by_element'], '.2f')})"
    table.add_row(f"neighbours within {found['cutoff']:g} Å", neighbours)
    table.add_row("closest pairs (Å)", _listed(found["min_distance"], ".3f"))
    return table


def _one(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _listed(values: dict[str, float], form: str) -> str:
    return "  ".join(f"{name} {_one(value, form)}" for name, value in values.items()) or "-"
