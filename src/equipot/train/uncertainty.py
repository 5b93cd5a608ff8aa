"""The last layer's uncertainties of a trained model, from its training data and calibrated on its validation data."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equipot.data.dataset import frame_graph
from equipot.data.frame import Frame
from equipot.data.graph import Graph, concatenate
from equipot.errors import UserError
from equipot.model import Ensemble, LastLayer, Potential, load_model, predict, read_header, save_model
from equipot.model.last_layer import calibrate, information, structure_features
from equipot.train.config import LossConfig
from equipot.train.setup import Prepared

log = logging.getLogger("equipot")
BATCH = 8


def last_layer_uncertainty(
    potential: Potential | Ensemble,
    train: Sequence[Frame],
    validation: Sequence[Frame],
    provenance: dict[str, Any] | None = None,
    forces: bool = True,
    regulariser: float | None = None,
    step: Callable[[int], None] = lambda n: None,
) -> LastLayer:
    """The `LastLayer` of a potential: the covariance of `model.last_layer.information` over `train`, calibrated on the energies of `validation`.

    Energies and forces count as in the loss that the model was trained with (of `provenance`, else the default one); without `forces`, energies
    alone. All is computed in float64. `step(n)` is called after every n structures.
    Raises UserError for an ensemble, for elements the model does not know, and where the data do not say enough.
    """
    if isinstance(potential, Ensemble):
        raise UserError("this model is an ensemble, which knows its spread already: uncertainties of the last layer are for one model")
    labelled = [f for f in validation if f.energy is not None]
    overlap = {f.source for f in train if f.source} & {f.source for f in labelled}
    if overlap:
        log.warning("%d validation structures are also among those trained on, such as %s", len(overlap), min(overlap))
    model = _in_double(potential)
    energy, force = _weights(provenance or {})
    if not forces or not any(f.forces is not None for f in train):
        energy, force = 1.0, 0.0
    covariance = information(model, _batches(model, train, step), energy, force)
    features, errors = [], []
    for graph, frames in zip(_batches(model, labelled, step), _chunks(labelled), strict=True):
        features.append(structure_features(model, graph))
        found = predict(model, graph, forces=False).energy.detach()
        errors.append(found - torch.tensor([f.energy for f in frames], dtype=torch.float64))
    if not errors:
        raise UserError("no validation structure has an energy: nothing to calibrate on")
    layer = calibrate(covariance, torch.cat(features), torch.cat(errors), regulariser)
    return LastLayer(layer.factor, layer.facts | {"n_train": len(train), "weights": {"energy": energy, "forces": force}})


def add_uncertainty(file: Path, prepared: Prepared) -> None:
    """Put the `LastLayer` of a run's data into its model file."""
    potential, provenance = load_model(file), read_header(file)["provenance"]
    potential.last_layer = last_layer_uncertainty(potential, prepared.train.frames, prepared.validation.frames, provenance)
    save_model(potential, file, provenance)
    log.info("uncertainties of the last layer, calibrated on %d structures, in %s", potential.last_layer.facts["n_validation"], file)


def _weights(provenance: dict[str, Any]) -> tuple[float, float]:
    """Energy and force weights at the end of the training."""
    config = LossConfig()
    weights = {"energy": config.energy, "forces": config.forces}
    loss = (provenance.get("config") or {}).get("loss") or {}
    for stage in (loss, *(loss.get("schedule") or ())):
        weights |= {k: stage[k] for k in weights if stage.get(k) is not None}
    return (weights["energy"], weights["forces"]) if any(weights.values()) else (1.0, 0.0)


def _in_double(potential: Potential) -> Potential:
    other = Potential(potential.spec, dtype=torch.float64, backend=getattr(potential.ops, "name", "auto"))
    other.load_state_dict(potential.state_dict())
    return other.to(potential.e0.device).eval().requires_grad_(False)


def _chunks(frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
    return (frames[i : i + BATCH] for i in range(0, len(frames), BATCH))


def _batches(potential: Potential, frames: Sequence[Frame], step: Callable[[int], None]) -> Iterator[Graph]:
    elements, spec = list(potential.spec.elements), potential.spec
    pair_cutoff = None if spec.pair_cutoff is None else torch.from_numpy(np.array(spec.pair_cutoff))
    for chunk in _chunks(frames):
        yield concatenate([frame_graph(f, elements, spec.cutoff, pair_cutoff) for f in chunk])
        step(len(chunk))
