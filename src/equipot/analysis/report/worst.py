"""The frames with the worst forces: a table, and the frames themselves in 3D."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from equipot.analysis.report.blocks import Block, Table, Viewer, number
from equipot.analysis.report.content import PredictedSet
from equipot.analysis.report.structures import frame_scene
from equipot.data.frame import Frame

N_WORST = 10
N_OF_A_SET = 2  # at least so many of a set are kept, if it has them, where the others are worse
CAPTION = (
    "Drag to turn, Ctrl and wheel (or pinch) to zoom, point at an atom for its error. Arrows: forces of the atoms that are off most, "
    "reference in blue and predicted in green."
)


@dataclass(frozen=True)
class Bad:
    """One frame by its worst atom; errors are lengths of force errors, meV/Å."""

    set_name: str
    frame: Frame
    prediction: dict[str, Any]
    atom: int
    error: float
    rmse: float  # per component

    @property
    def name(self) -> str:
        return self.frame.source.rpartition("/")[2]

    @property
    def where(self) -> str:
        return f"atom {self.atom} ({chemical_symbols[self.frame.numbers[self.atom]]})"


def worst(sets: list[PredictedSet]) -> list[Block]:
    """A table of the worst frames and a 3D view of those small enough to draw; nothing where there are no forces."""
    found = worst_frames(sets)
    if not found:
        return []
    columns = ["set", "frame", "worst atom", "off by (meV/Å)", "frame RMSE (meV/Å)"]
    rows = [[b.set_name, b.name, b.where, number(b.error), number(b.rmse)] for b in found]
    blocks: list[Block] = [Table(columns, rows, "The frames with the worst forces, to be looked at.")]
    scenes = [scene for b in found if (scene := frame_scene(f"{b.set_name}, {b.name}: {b.error:,.0f} meV/Å", b.frame, b.prediction))]
    if scenes:
        blocks.append(Viewer("worst", "The worst frames", scenes, caption=CAPTION))
    return blocks


def worst_frames(sets: list[PredictedSet]) -> list[Bad]:
    """The `N_WORST` worst of all sets, and of every set the worst `N_OF_A_SET`, by their worst atom."""
    by_set = [sorted(_all(s), key=lambda b: -b.error) for s in sets]
    chosen = {id(b): b for bad in by_set for b in bad[:N_OF_A_SET]}
    chosen |= {id(b): b for b in sorted((b for bad in by_set for b in bad), key=lambda b: -b.error)[:N_WORST]}
    return sorted(chosen.values(), key=lambda b: -b.error)


def _all(s: PredictedSet) -> list[Bad]:
    return [_bad(s.name, f, p) for f, p in zip(s.frames, s.predictions, strict=True) if f.forces is not None and f.n_atoms]


def _bad(set_name: str, frame: Frame, prediction: dict[str, Any]) -> Bad:
    error = 1000.0 * np.linalg.norm(prediction["forces"] - frame.forces, axis=1)
    atom = int(np.argmax(error))
    return Bad(set_name, frame, prediction, atom, float(error[atom]), float(np.sqrt((error**2).mean() / 3)))
