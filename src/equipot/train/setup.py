"""From a configuration to what is trained: data read and checked, and the spec filled in from them."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from equipot.data.dataset import DataSet
from equipot.data.elements import is_isolated_atom, separate_isolated
from equipot.data.findings import Report
from equipot.data.frame import Frame, elements_of, to_numbers
from equipot.data.labels import Keys
from equipot.data.preflight import preflight
from equipot.data.readers import read_frames, resolve
from equipot.data.references import References, reference_energies
from equipot.data.split import INDEX_SUFFIXES, checked_indices, read_indices, split
from equipot.data.statistics import Statistics, statistics
from equipot.data.units import Units
from equipot.errors import UserError
from equipot.model import Potential
from equipot.ops.registry import backend_on
from equipot.spec import EnergySpec, LayerSpec, ModelSpec, NormaliserSpec
from equipot.train.config import DataConfig, Files, RunConfig
from equipot.train.datamodule import with_stand_in_cells
from equipot.train.loss import Loss
from equipot.train.model_config import build_spec

log = logging.getLogger("equipot.train")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Prepared:
    """All that a training starts from."""

    spec: ModelSpec
    train: DataSet
    validation: DataSet | None
    tests: dict[str, list[Frame]]
    references: References
    statistics: Statistics
    report: Report
    hashes: dict[str, str]  # sha256 of every file, by the name it was given

    def provenance(self, config: RunConfig) -> dict[str, Any]:
        """What the model file keeps of where the model comes from."""
        return {
            "name": config.name,
            "config": config.model_dump(mode="json"),
            "data": self.hashes,
            "n_train": len(self.train),
            "n_validation": len(self.validation) if self.validation else 0,
            "references": {"kind": self.references.kind, "energies": self.references.energies},
            "statistics": self.statistics.to_dict(),
            "torch": str(torch.__version__),
        }

    def split_record(self) -> dict[str, list[str]]:
        """Which frame went where."""
        return {
            "train": [f.source for f in self.train.frames],
            "validation": [f.source for f in self.validation.frames] if self.validation else [],
        }


class CheckedFrames(NamedTuple):
    """Frames that can be trained on, validated on and tested with."""

    train: list[Frame]
    validation: list[Frame]
    tests: dict[str, list[Frame]]
    references: References
    report: Report


def read_checked(config: RunConfig) -> CheckedFrames:
    """Read the data and check them. Raises UserError for every mistake in them."""
    loss = Loss(config.loss)
    train, validation, tests, isolated = _read(config)
    references = reference_energies(train, isolated, config.data.reference_energies)
    report = preflight([*train, *isolated], validation, tests, requested_labels(loss), references)
    report.raise_errors()
    _measurable(config, loss, validation)
    return CheckedFrames(train, validation, tests, references, report)


def prepare(config: RunConfig) -> Prepared:
    """Read and check the data and fill the spec in. Raises UserError for every mistake, before any training."""
    spec, loss = build_spec(config.model), Loss(config.loss)
    train, validation, tests, references, report = read_checked(config)
    elements = to_numbers(elements_of(train))
    train, validation = _weighted(train, config, "to train on"), _weighted(validation, config, "for validation")
    training = DataSet(train, elements, spec.cutoff)
    held = DataSet(validation, elements, spec.cutoff) if validation else None
    found = statistics(training, references)
    if loss.needs_stress:
        training, held = with_stand_in_cells(training), with_stand_in_cells(held) if held else None
    filled = fill_spec(spec, elements, references, found)
    prepared = Prepared(filled, training, held, tests, references, found, report, data_hashes(config.data))
    return prepared if config.train.member is None else of_member(prepared, config)


def of_member(prepared: Prepared, config: RunConfig) -> Prepared:
    """The same for one member of an ensemble: spec and validation set are all members', the training frames its own sample of the same size."""
    if not config.train.bootstrap:
        return prepared
    n = len(prepared.train)
    chosen = np.random.default_rng([config.train.member_seed, n]).integers(n, size=n)
    return replace(prepared, train=prepared.train.subset(sorted(chosen.tolist())))


def make_potential(spec: ModelSpec, config: RunConfig, device: str = "cpu") -> Potential:
    """The untrained potential of a filled spec, still on the CPU, with the operations that run on `device`."""
    backend = backend_on(device, config.train.backend)
    return Potential(spec, dtype=DTYPES[config.train.dtype], seed=config.train.member_seed, backend=backend)


def _read(config: RunConfig) -> tuple[list[Frame], list[Frame], dict[str, list[Frame]], list[Frame]]:
    """Training, validation and test frames, and isolated atoms."""
    data = config.data
    how = Keys(**data.keys.model_dump()), Units(**data.units.model_dump())
    read = read_frames(data.train, *how)
    frames, isolated = separate_isolated(read)
    if data.isolated_atoms:
        apart = separate_isolated(read_frames(data.isolated_atoms, *how))
        if apart[0]:
            raise UserError(
                f"data.isolated_atoms: {apart[0][0].source} is a structure of {apart[0][0].n_atoms} atoms, not an isolated atom"
            )
        isolated += apart[1]
    if not frames:
        raise UserError(f"data.train: {data.train} holds no structures (isolated atoms do not count): name a file that does")
    if isinstance(data.validation, str) and not data.validation.endswith(INDEX_SUFFIXES):
        train = _first(frames, data.n_train, config.train.seed)
        validation = separate_isolated(read_frames(data.validation, *how))[0]
        if not validation:
            raise UserError(f"data.validation: {data.validation} holds no structures (isolated atoms do not count): name a file that does")
    else:
        wanted = _structures(data.validation, read) if isinstance(data.validation, str | list) else data.validation
        chosen, held = split(frames, wanted, config.train.seed, data.n_train)
        train, validation = [frames[i] for i in chosen], [frames[i] for i in held]
    return train, validation, {name: read_frames(files, *how) for name, files in data.test_sets().items()}, isolated


def _structures(validation: str | list[int], read: list[Frame]) -> list[int]:
    """Numbers of frames as they were read, isolated atoms counted, as numbers among the structures."""
    numbers = read_indices(validation) if isinstance(validation, str) else validation
    places = {place: i for i, place in enumerate(k for k, f in enumerate(read) if not is_isolated_atom(f))}
    found = []
    for number in checked_indices(numbers, len(read)):
        if number not in places:
            raise UserError(f"data.validation: frame {number} is an isolated atom ({read[number].source}): list structures only")
        found.append(places[number])
    return found


def _first(frames: list[Frame], n_train: int | None, seed: int) -> list[Frame]:
    return [frames[i] for i in split(frames, 0, seed, n_train)[0]]


def requested_labels(loss: Loss) -> set[str]:
    """The labels that a loss asks for."""
    weights = loss.config
    energy = bool(weights.energy) or any(s.energy for s in weights.schedule)
    return {n for n, on in (("energy", energy), ("forces", loss.needs_forces), ("stress", loss.needs_stress)) if on}


def _measurable(config: RunConfig, loss: Loss, validation: list[Frame]) -> None:
    """Raises UserError where the validation set lacks the labels of the measure that decides what is best."""
    measure = config.train.measure
    if measure == "loss" or not validation:
        return
    label = next(n for n in ("energy", "forces", "stress") if measure.startswith(n))
    if all(getattr(f, label) is None for f in validation) or (label == "stress" and not loss.needs_stress):
        raise UserError(f"train.measure is {measure}, but validation has no {label} to compare with: choose another measure")
    if label == "forces" and not loss.needs_forces:
        raise UserError(f"train.measure is {measure}, but loss.forces is 0: choose another measure")


def _weighted(frames: Sequence[Frame], config: RunConfig, purpose: str) -> list[Frame]:
    """Frames with the weight of their config_type; raises UserError where all of them weigh nothing."""
    kinds = config.loss.config_types
    for kind in kinds:
        if frames and not any(f.config_type == kind for f in frames):
            log.warning("loss.config_types: no structure of %s has config_type %s", frames[0].file, kind)
    weighted = [replace(f, weight=f.weight * kinds[f.config_type]) if f.config_type in kinds else f for f in frames]
    if weighted and not any(f.weight for f in weighted):
        raise UserError(
            f"{weighted[0].file}: all {len(weighted)} structures {purpose} have weight 0: look at their config_weight and at loss.config_types"
        )
    return weighted


def fill_spec(spec: ModelSpec, elements: list[int], references: References, found: Statistics) -> ModelSpec:
    """The spec with elements, E0, scale, shift and numbers of neighbours of the training data where it leaves them open.

    Raises UserError where it names other elements than the data have.
    """
    if spec.elements and list(spec.elements) != list(elements):
        named, there = (", ".join(_symbols(list(zs))) for zs in (spec.elements, elements))
        raise UserError(f"model.pair_cutoff names the elements {named}, the training data have {there}: name a pair of each, such as H-H")
    energy = spec.energy
    filled = EnergySpec(
        e0=tuple(float(e) for e in references.as_array(elements)) if energy.e0 is None else energy.e0,
        scale=_scale(found) if energy.scale is None else energy.scale,
        shift=_known(found.mean_interaction, 0.0) if energy.shift is None else energy.shift,
        train_scale=energy.train_scale,
        train_shift=energy.train_shift,
    )
    if not any(filled.scale if isinstance(filled.scale, tuple) else (filled.scale,)):
        raise UserError("model.energy.scale is 0, which leaves nothing of the model: leave it out for the RMS of the forces")
    layers = tuple(replace(layer, normaliser=_normaliser(layer, elements, found)) for layer in spec.layers)
    return replace(spec, elements=tuple(elements), energy=filled, layers=layers)


def _scale(found: Statistics) -> float:
    return _known(found.rms_forces, _known(found.std_interaction, 1.0))


def _known(value: float, otherwise: float) -> float:
    """`value` unless it is unknown (NaN) or zero."""
    return otherwise if math.isnan(value) or value == 0.0 else value


def _normaliser(layer: LayerSpec, elements: list[int], found: Statistics) -> NormaliserSpec:
    normaliser = layer.normaliser
    if normaliser.kind not in ("mean", "sqrt") or normaliser.value is not None:
        return normaliser
    if not found.mean_neighbours:
        raise UserError("no two atoms of the training data are closer than model.cutoff: enlarge it")
    if normaliser.per == "all":
        return replace(normaliser, value=found.mean_neighbours)
    by_element = found.neighbours_by_element
    return replace(normaliser, value=tuple(by_element.get(s) or found.mean_neighbours for s in _symbols(elements)))


def _symbols(elements: list[int]) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in elements]


def data_hashes(data: DataConfig) -> dict[str, str]:
    """sha256 of every file or folder the data come from."""
    named: list[Files] = [data.train, *data.test_sets().values()]
    named += [data.validation] if isinstance(data.validation, str) else []
    named += [data.isolated_atoms] if data.isolated_atoms else []
    return file_hashes([name for files in named for name in ([files] if isinstance(files, str) else files)])


def file_hashes(names: Sequence[str]) -> dict[str, str]:
    """sha256 of files or folders of frames, by the names they are given by."""
    return {name: _hash(Path(name) if name.endswith(INDEX_SUFFIXES) else resolve(name)[0]) for name in dict.fromkeys(names)}


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
