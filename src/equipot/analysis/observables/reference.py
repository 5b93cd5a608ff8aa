"""Whether a reference can be compared with a trajectory, and what of it."""

from collections import Counter

import numpy as np

from equipot.analysis.observables.trajectory import Trajectory
from equipot.errors import UserError

SAME_DENSITY = 0.005  # relative


def remarks_on_reference(trajectory: Trajectory, reference: Trajectory) -> list[str]:
    """What stands in the way of a comparison, and what is compared all the same; raises UserError if no element is in both."""
    here, there = set(trajectory.elements), set(reference.elements)
    if not here & there:
        raise UserError(
            f"{reference.name}: its elements are {', '.join(reference.elements)}, those of {trajectory.name} {', '.join(trajectory.elements)}: "
            "there is nothing to compare"
        )
    found = []
    if here != there:
        only_here, only_there = sorted(here - there), sorted(there - here)
        lacking = [f"no {', '.join(only_here)}"] if only_here else []
        lacking += [f"{', '.join(only_there)} besides"] if only_there else []
        found.append(f"another system: the reference has {' and '.join(lacking)}; curves of the elements in both are compared all the same")
    elif _shares(trajectory) != _shares(reference):
        found.append("the reference has the same elements in other proportions; curves are compared all the same")
    if trajectory.is_bulk != reference.is_bulk:
        found.append("one of trajectory and reference is bulk and the other is not: their distances cannot be compared")
    elif trajectory.is_bulk:
        density, other = (len(t.numbers) / float(t.volumes.mean()) for t in (trajectory, reference))
        if abs(density / other - 1.0) > SAME_DENSITY:
            found.append(
                f"another cell: {density:.5f} atoms/Å³, the reference {other:.5f} ({100 * (density / other - 1):+.1f} %); "
                "curves are compared all the same, and may differ for that reason alone"
            )
        elif len(trajectory.numbers) == len(reference.numbers) and not _same_cell(trajectory, reference):
            found.append("the cell has another shape than the reference's, at the same density")
    return found


def _shares(trajectory: Trajectory) -> dict[str, float]:
    return {s: round(c / len(trajectory.numbers), 6) for s, c in Counter(trajectory.symbols.tolist()).items()}


def _same_cell(trajectory: Trajectory, reference: Trajectory) -> bool:
    """By the metric, which does not know how the cell is turned."""
    metrics = [cell @ cell.T for cell in (trajectory.cells.mean(axis=0), reference.cells.mean(axis=0))]
    return bool(np.allclose(*metrics, rtol=0.01, atol=0.01 * float(np.abs(metrics[1]).max())))
