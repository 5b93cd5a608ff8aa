"""A ready configuration for each preset, as text with comments."""

import difflib
from typing import Any

from equipot.errors import UserError
from equipot.presets import PRESETS, preset_options

# Sizes that train in an hour or two on a small machine; other arguments keep the preset's own values.
_SIZES = {
    "nequip": {"n_layers": 3, "l_max": 2, "n_channels": 32, "parity": "natural"},
    "nequip_linear": {"n_layers": 4, "l_max": 2, "n_channels": 32, "parity": "natural"},
    "botnet": {"n_layers": 4, "l_max": 2, "n_channels": 32, "parity": "natural"},
}
_COMMENTS = {
    "cutoff": "Å",
    "n_layers": "each layer sees a cutoff further",
    "l_max": "degree of the harmonics: 1 is fast, 2 good, 3 the most accurate",
    "l_features": "degree of the features; null: l_max",
    "n_channels": "16 to 128: more is slower and more accurate",
    "parity": "natural | both: both costs about twice",
    "radial": "agnostic | element: radial weights shared, or per element",
    "radial_mlp": "widths of the radial perceptron",
    "n_bessel": "radial functions",
    "correlation": "order of the products of the density",
    "n_radial": "radial functions n = 1, 2, ... of every element",
    "degrees": "highest sum of n + angular_weight * l of the products of 1, 2, ... factors; null: chosen from n_radial",
    "angular_weight": "what a degree l counts against a radial function",
    "basis": "bessel | chebyshev",
    "transform": "none | agnesi: of the distance, finer where bonds are",
    "elements": "weights per element of the centre, or shared",
    "shift": "none | mean: add the mean energy per atom to every atom; then isolated_atom is free",
}

_REST = """\
data:
  train: null          # the one thing to fill in: a file, a list of files, a DeePMD folder; file.xyz@0:100 takes a slice
  validation: 0.1      # a fraction, a count, a file, or frame numbers
  # test: {cold: test_300K.xyz, hot: test_600K.xyz}     # evaluated at the end
  # isolated_atoms: isolated_atoms.xyz                  # or reference_energies: {H: -13.6, O: -2041.8}, or least-squares
  # keys: {energy: energy, forces: forces}              # names of the labels, where they are unusual
  # units: {energy: eV, length: angstrom}               # units of the files, where they are others
loss:
  energy: 1.0          # of the energy per atom
  forces: 10.0         # of the force components
  stress: 0.0          # of the stress; above 0 where the data have it
"""
_GRADIENT = """\
  schedule: [{from_fraction: 0.6, energy: 30.0}]      # later weights: the forces shape the model first, then the energies settle
train:
  max_time: "01:00:00"  # the learning rate anneals to the end of this, or of max_epochs
  max_epochs: 2000
  batch_size: 5
  optimizer: soap      # soap | amsgrad | adam | adamw | schedule_free
  learning_rate: 0.03  # 0.01 for the others
  dtype: float32       # float32 | float64
  seed: 0
"""
_LEAST_SQUARES = """\
train:
  fit: least-squares   # the model is linear in its parameters; gradient is possible too
  least_squares:
    solver: ridge      # ridge | ard, for up to 1,500 functions
    regularisation: null  # null: searched for on the validation set
    columns: null      # solve for so many functions, those that say most about the data; null: all
    smoothness: 2.0    # power of the degree in the smoothness prior
  dtype: float64
  seed: 0              # of the split
"""


def preset_config(name: str) -> str:
    """YAML of a configuration that needs only `data.train`; raises UserError for a preset that does not exist."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PRESETS)}"
        raise UserError(f"{name!r} is not a preset: {hint}")
    head = f"# {name}: equipot train {name}.yaml data.train=frames.xyz\nname: {name}\n"
    return head + _model(name) + _REST + (_LEAST_SQUARES if name == "ace" else _GRADIENT)


def _model(name: str) -> str:
    """The model section, a line per argument of the preset."""
    rows = [f"preset: {name}"]
    for key, parameter in preset_options(name).items():
        value = _yaml(_SIZES.get(name, {}).get(key, parameter.default))
        comment = _COMMENTS.get(key)
        rows.append(f"{f'{key}: {value}':<24} # {comment}" if comment else f"{key}: {value}")
    rows.append("# any axis of the design space can follow, such as radial_basis: {p: 6} or layers: {radial: {activation: silu}}")
    return "model:\n" + "".join(f"  {row}\n" for row in rows)


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
