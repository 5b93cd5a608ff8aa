"""From a potential to the bytes of an .eqn file."""

from typing import Any

import numpy as np
import torch

from equipot import __version__
from equipot.engine.file import FILE_VERSION, to_bytes
from equipot.errors import CannotExpressError, UserError
from equipot.model.ensemble import Ensemble
from equipot.model.export.layers import layer_tensors, readout_tensors
from equipot.model.export.products import HIGHEST_CORRELATION
from equipot.model.export.radial import tabulate
from equipot.model.potential import Potential
from equipot.nn.perceptron import Perceptron
from equipot.nn.zbl import ZBL, NoPair
from equipot.spec import layer_features

DEFAULT_ACCURACY = 1e-8


def native_bytes(potential: Potential, accuracy: float = DEFAULT_ACCURACY, provenance: dict[str, Any] | None = None) -> bytes:
    """The exported model: steps with explicit weights and tabulated radial functions, float64.

    accuracy: of the tables, relative to the largest value and slope of a layer's radial functions.
    Raises UserError naming what the native engine cannot express.
    """
    if not 0.0 < accuracy < 1.0:
        raise UserError(f"accuracy {accuracy} must lie between 0 and 1")
    if isinstance(potential, Ensemble):
        raise CannotExpressError(
            f"this model is an ensemble of {len(potential)}, and the native engine runs one model: run it with torch, or export a member"
        )
    for index, layer in enumerate(potential.spec.layers):
        if layer.product is not None and layer.product.correlation > HIGHEST_CORRELATION:
            raise CannotExpressError(
                f"layer {index + 1} has correlation {layer.product.correlation}: the native engine has products of up to {HIGHEST_CORRELATION} "
                "factors; run this model with torch"
            )
    model = _in_double(potential)
    tensors = _whole(model)
    features = layer_features(model.spec)
    attributes = None
    if model.spec.embedding.attributes == "embedding":
        attributes = tensors["embedding"]
    tabulation: dict[str, list] = {"relative_error": [], "knots": [], "kinks": []}
    for index, (layer, readout) in enumerate(zip(model.layers, model.readouts, strict=True)):
        name = f"layer{index}"
        tensors |= layer_tensors(layer, features[index], features[index + 1], attributes, len(model.spec.elements), name)
        tensors |= readout_tensors(readout, f"{name}.readout")
        radial = tabulate(model, index, accuracy)
        tensors |= {f"{name}.table": radial.values, f"{name}.knots": radial.knots}
        tensors |= {f"{name}.table_starts": radial.starts, f"{name}.table_of": radial.table_of}
        tabulation["relative_error"].append(radial.error)
        tabulation["knots"].append(len(radial.knots))
        tabulation["kinks"].append(radial.n_kinks)
    header = {
        "format": FILE_VERSION,
        "equipot": __version__,
        "elements": list(model.spec.elements),
        "cutoff": model.spec.cutoff,
        "dtype": str(potential.dtype).removeprefix("torch."),
        "tabulation": tabulation,
        "spec": model.spec.to_dict(),
        "provenance": provenance or {},
    }
    return to_bytes(header, tensors)


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
