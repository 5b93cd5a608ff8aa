"""From a point of the design space to a potential, its derivatives and its file."""

from equipot.model.derivatives import Prediction, predict
from equipot.model.file import load_model, read_header, save_model
from equipot.model.potential import Potential

__all__ = ["Potential", "Prediction", "load_model", "predict", "read_header", "save_model"]
