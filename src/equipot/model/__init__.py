"""From a point of the design space to a potential, its derivatives and its file."""

from equipot.model.derivatives import Prediction, Spread, predict, predict_members
from equipot.model.ensemble import Ensemble, members_of
from equipot.model.file import load_model, read_header, save_model
from equipot.model.last_layer import LastLayer
from equipot.model.potential import Potential

__all__ = [
    "Ensemble",
    "LastLayer",
    "Potential",
    "Prediction",
    "Spread",
    "load_model",
    "members_of",
    "predict",
    "predict_members",
    "read_header",
    "save_model",
]
