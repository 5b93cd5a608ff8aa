"""From a potential to the bytes of an .eqn file."""

from typing import Any, NamedTuple

import numpy as np
import torch

from equipot import __version__
from equipot.engine.file import ENSEMBLE, to_bytes
from equipot.errors import CannotExpressError, UserError
from equipot.model.ensemble import Ensemble, members_of
from equipot.model.export.layers import layer_tensors, readout_tensors
from equipot.model.export.products import HIGHEST_CORRELATION
from equipot.model.export.radial import tabulate
from equipot.model.potential import Potential
from equipot.nn.perceptron import Perceptron
from equipot.nn.zbl import ZBL, NoPair
from equipot.spec import layer_features

DEFAULT_ACCURACY = 1e-8


class _Exported(NamedTuple):
    """The tensors of one potential, and for each layer what its tables are like."""

    tensors: dict[str, np.ndarray]
    relative_error: list[float]
    knots: list[int]
    kinks: list[int]


def native_bytes(potential: Potential | Ensemble, accuracy: float = DEFAULT_ACCURACY, provenance: dict[str, Any] | None = None) -> bytes:
    """The exported model, or all members of an ensemble in one: steps with explicit weights and tabulated radial functions, float64.

    accuracy: of the tables, relative to the largest value and slope of a layer's radial functions.
    Raises UserError naming what the native engine cannot express.
    """
    if not 0.0 < accuracy < 1.0:
        raise UserError(f"accuracy {accuracy} must lie between 0 and 1")
    members = [_export(member, accuracy) for member in members_of(potential)]
    tensors = members[0].tensors
    if len(members) > 1:
        tensors = {f"members.{i}.{name}": value for i, member in enumerate(members) for name, value in member.tensors.items()}
        tensors[ENSEMBLE] = np.array([len(members)])
    header = {
        "format": 2 if len(members) > 1 else 1,
        "equipot": __version__,
        "ensemble": len(members) if len(members) > 1 else None,
        "elements": list(potential.spec.elements),
        "cutoff": potential.spec.cutoff,
        "dtype": str(potential.dtype).removeprefix("torch."),
        # of a layer, the member with the most
        "tabulation": {key: [max(of) for of in zip(*(getattr(m, key) for m in members), strict=True)] for key in _Exported._fields[1:]},
        "spec": potential.spec.to_dict(),
        "provenance": provenance or {},
    }
    return to_bytes(header, tensors)


def _export(potential: Potential, accuracy: float) -> _Exported:
    for index, layer in enumerate(potential.spec.layers):
        if layer.product is not None and layer.product.correlation > HIGHEST_CORRELATION:
            raise CannotExpressError(
                f"layer {index + 1} has correlation {layer.product.correlation}: the native engine has products of up to {HIGHEST_CORRELATION} "
                "factors; run this model with torch"
            )
    model = _in_double(potential)
    found = _Exported(_whole(model), [], [], [])
    features = layer_features(model.spec)
    attributes = None
    if model.spec.embedding.attributes == "embedding":
        attributes = found.tensors["embedding"]
    for index, (layer, readout) in enumerate(zip(model.layers, model.readouts, strict=True)):
        name = f"layer{index}"
        found.tensors.update(layer_tensors(layer, features[index], features[index + 1], attributes, len(model.spec.elements), name))
        found.tensors.update(readout_tensors(readout, f"{name}.readout"))
        radial = tabulate(model, index, accuracy)
        found.tensors.update({f"{name}.table": radial.values, f"{name}.knots": radial.knots})
        found.tensors.update({f"{name}.table_starts": radial.starts, f"{name}.table_of": radial.table_of})
        found.relative_error.append(radial.error)
        found.knots.append(len(radial.knots))
        found.kinks.append(radial.n_kinks)
    return found


def _in_double(potential: Potential) -> Potential:
    """The same model in float64, its constants computed in float64 too."""
    model = Potential(potential.spec, dtype=torch.float64, backend="reference")
    model.load_state_dict({k: v.detach().cpu() for k, v in potential.state_dict().items()})
    for module in model.modules():
        if isinstance(module, Perceptron):
            module._fused = False  # tables need third derivatives
    return model.eval().requires_grad_(False)


def _whole(model: Potential) -> dict[str, np.ndarray]:
    """What is not of one layer."""
    spec = model.spec
    n = len(spec.elements)
    cutoffs = np.full((n, n), spec.cutoff) if spec.pair_cutoff is None else np.array(spec.pair_cutoff)
    info = [len(spec.layers), n, int(model._subtract_bare)]
    found = {
        "info": np.array(info, dtype=np.int64),
        "elements": np.array(spec.elements, dtype=np.int64),
        "pair_cutoffs": cutoffs,
        "embedding": (model.embedding * model._embedding_scale).numpy(),
        "energy.e0": model.e0.double().numpy(),
        "energy.scale": model.scale.double().numpy(),
        "energy.shift": model.shift.double().numpy(),
    }
    if isinstance(model.pair, ZBL):
        pair = model.pair
        table = np.stack([0.5 * pair.square_charge * pair._product.numpy(), 1.0 / pair._length.numpy(), pair._cutoff.numpy()], axis=2)
        found |= {
            "zbl.pairs": table,
            "zbl.screening": np.array(pair.screening),
            "zbl.info": np.array([pair.p, int(pair.scaled)], dtype=np.int64),
        }
    elif not isinstance(model.pair, NoPair):
        raise CannotExpressError(f"the native engine does not know a pair term of type {type(model.pair).__name__}")
    return found
