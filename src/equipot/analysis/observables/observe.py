"""All observables of a trajectory, beside a reference's, and those of a crystal; what cannot be had is said, with the reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ase import Atoms
from ase.calculators.calculator import Calculator

from equipot.analysis.observables.angles import angles
from equipot.analysis.observables.bonds import bond_lengths
from equipot.analysis.observables.coordination import coordination
from equipot.analysis.observables.crystal import prepare
from equipot.analysis.observables.elastic import elastic_constants
from equipot.analysis.observables.eos import equation_of_state
from equipot.analysis.observables.msd import msd
from equipot.analysis.observables.overlap import Difference, Overlap, compare
from equipot.analysis.observables.pairs import default_reach
from equipot.analysis.observables.phonons import phonons
from equipot.analysis.observables.rdf import rdf
from equipot.analysis.observables.reference import remarks_on_reference
from equipot.analysis.observables.result import CannotObserveError, Observable
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.traces import traces, why_no_pressure
from equipot.analysis.observables.trajectory import Trajectory
from equipot.analysis.observables.vacf import longest, vacf
from equipot.analysis.observables.vdos import vdos
from equipot.errors import UserError

OF_TRAJECTORIES = ("rdf", "coordination", "angles", "msd", "vacf", "vdos", "traces")
OF_CRYSTALS = ("eos", "elastic", "phonons")
NAMES = OF_TRAJECTORIES + OF_CRYSTALS
HAVE_SHAPE = ("rdf", "coordination", "angles", "vacf", "vdos")  # curves to be laid on one another; of the others, values are compared
NEED_BONDS = ("coordination", "angles")
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Observed:
    """What was found: observables by name in the order of `NAMES`, and why others are not there."""

    observables: dict[str, Observable]
    missing: dict[str, str] = field(default_factory=dict)
    reference: dict[str, Observable] = field(default_factory=dict)
    reference_missing: dict[str, str] = field(default_factory=dict)
    overlaps: list[Overlap] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def observe(
    trajectory: Trajectory,
    settings: Settings | None = None,
    *,
    reference: Trajectory | None = None,
    calculator: Calculator | None = None,
    crystal: Atoms | None = None,
    only: Sequence[str] = (),
    progress: Progress = lambda text: None,
) -> Observed:
    """The observables named in `only` (all that can be had, if it is empty) of a trajectory, and of a crystal where there is a calculator.

    The crystal is `crystal`, else the trajectory if it has one frame. Raises UserError for a name that is not known, a reference without a common
    element, and where nothing that was asked for can be had.
    """
    settings = settings or Settings()
    names = _names(only, calculator is not None)
    settings = _shared_range(settings, trajectory, reference)
    remarks = remarks_on_reference(trajectory, reference) if reference is not None else []
    wanted = [n for n in names if n in OF_TRAJECTORIES]
    bonds: dict[tuple[str, str], float] = {}
    if any(n in NEED_BONDS for n in wanted):
        progress("bond lengths")
        bonds = bond_lengths(
            rdf(reference if reference is not None and remarks_allow_bonds(trajectory, reference) else trajectory, settings), settings.bonds
        )
    found, missing = _of_trajectory(trajectory, wanted, settings, bonds, progress)
    beside: dict[str, Observable] = {}
    beside_missing: dict[str, str] = {}
    overlaps: list[Overlap] = []
    differences: list[Difference] = []
    if reference is not None:
        elements = tuple(e for e in settings.elements if e in reference.elements)
        beside, beside_missing = _of_trajectory(
            reference, wanted, replace(settings, elements=elements), bonds, lambda text: progress(f"reference: {text}")
        )
        for name in (n for n in found if n in beside):
            more, other = compare(found[name], beside[name], settings.seed)
            overlaps += [o for o in more if name in HAVE_SHAPE]
            differences += other
    crystals = [n for n in names if n in OF_CRYSTALS]
    if crystals:
        more_found, more_missing = _of_crystal(trajectory, calculator, crystal, crystals, settings, progress)
        found, missing = found | more_found, missing | more_missing
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UserError(f"{trajectory.name}: nothing that was asked for can be had: {reasons}")
    notes = [*trajectory.notes, *remarks]
    if reference is not None:
        notes += [f"reference: {note}" for note in reference.notes]
    if "traces" in wanted and "pressure" not in found and "traces" not in missing and (reason := why_no_pressure(trajectory)):
        missing["pressure"] = reason
    return Observed(found, missing, beside, beside_missing, overlaps, differences, notes)


def remarks_allow_bonds(trajectory: Trajectory, reference: Trajectory) -> bool:
    """Whether the reference's bond lengths serve for the trajectory: it has all its elements, and distances mean the same in both."""
    return set(trajectory.elements) <= set(reference.elements) and trajectory.is_bulk == reference.is_bulk


def _names(only: Sequence[str], model: bool) -> list[str]:
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise UserError(f"no observable {unknown[0]!r}: there are {', '.join(NAMES)}")
    return [n for n in NAMES if n in only] if only else [n for n in NAMES if model or n in OF_TRAJECTORIES]


def _shared_range(settings: Settings, trajectory: Trajectory, reference: Trajectory | None) -> Settings:
    """One range of distances for both, and of correlation times, which set a spectrum's resolution."""
    both = [t for t in (trajectory, reference) if t is not None]
    moving = [t for t in both if t.velocities is not None and t.interval is not None]
    return replace(
        settings,
        r_max=settings.r_max or min(default_reach(t) for t in both),
        vacf_length=settings.vacf_length or min((longest(t, settings) for t in moving), default=0.0) or None,
    )


def _of_trajectory(
    trajectory: Trajectory, names: Sequence[str], settings: Settings, bonds: dict[tuple[str, str], float], progress: Progress
) -> tuple[dict[str, Observable], dict[str, str]]:
    ways: dict[str, Callable[[], Observable | list[Observable]]] = {
        "rdf": lambda: rdf(trajectory, settings),
        "coordination": lambda: coordination(trajectory, settings, bonds),
        "angles": lambda: angles(trajectory, settings, bonds),
        "msd": lambda: msd(trajectory, settings),
        "vacf": lambda: vacf(trajectory, settings),
        "vdos": lambda: vdos(trajectory, settings),
        "traces": lambda: traces(trajectory, settings),
    }
    return _collect({name: ways[name] for name in names}, progress)


def _of_crystal(
    trajectory: Trajectory, calculator: Calculator | None, given: Atoms | None, names: Sequence[str], settings: Settings, progress: Progress
) -> tuple[dict[str, Observable], dict[str, str]]:
    if calculator is None:
        return {}, dict.fromkeys(names, "needs a model, --model")
    if given is None and len(trajectory) > 1:
        return {}, dict.fromkeys(names, "a trajectory says not which crystal: give it with --crystal FILE, or a file of one structure")
    try:
        crystal = prepare(trajectory.atoms(0) if given is None else given, calculator, given is not None, progress)
    except CannotObserveError as error:
        return {}, dict.fromkeys(names, str(error))
    return _collect(
        {
            name: way
            for name, way in {
                "eos": lambda: equation_of_state(crystal, settings),
                "elastic": lambda: elastic_constants(crystal, settings),
                "phonons": lambda: phonons(crystal, settings, progress),
            }.items()
            if name in names
        },
        progress,
    )


def _collect(
    ways: dict[str, Callable[[], Observable | list[Observable]]], progress: Progress
) -> tuple[dict[str, Observable], dict[str, str]]:
    found: dict[str, Observable] = {}
    missing: dict[str, str] = {}
    for name, way in ways.items():
        progress(name)
        try:
            made = way()
        except CannotObserveError as error:
            missing[name] = str(error)
            continue
        for observable in made if isinstance(made, list) else [made]:
            found[observable.name] = observable
    return found, missing
