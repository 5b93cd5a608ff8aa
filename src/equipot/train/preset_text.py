"""A ready configuration for each preset, as text with comments."""

import difflib

from equipot.errors import UserError
from equipot.presets import PRESETS

_MODELS = {
    "nequip": """\
model:
  preset: nequip
  cutoff: 5.0          # Å
  n_layers: 3          # 3 to 5; each layer sees a cutoff further
  l_max: 2             # angular degree: 1 is fast, 2 good, 3 the most accurate
  n_channels: 32       # 32 to 64
  parity: natural      # natural | both: both parities cost twice
  # any axis of the design space can follow, for example
  # radial_basis: {n: 8, p: 6}
  # layers: {radial: {widths: [64, 64]}}
""",
    "nequip_linear": """\
model:
  preset: nequip_linear   # NequIP without gates: body-ordered but for its radial functions
  cutoff: 4.0             # Å
  n_layers: 4             # body order grows with each layer
  l_max: 2                # angular degree: 1 is fast, 2 good, 3 the most accurate
  n_channels: 32          # 32 to 64
  parity: natural         # natural | both: both parities cost twice
  # any axis of the design space can follow, for example
  # radial_basis: {n: 8, p: 6}
""",
    "botnet": """\
model:
  preset: botnet
  cutoff: 4.0          # Å
  n_layers: 4          # body order grows with each layer
  l_max: 2             # angular degree: 1 is fast, 2 good, 3 the most accurate
  n_channels: 32       # 32 to 80
  parity: natural      # natural | both: both parities cost twice
  radial: agnostic     # agnostic | element: radial weights per element
  # any axis of the design space can follow, for example
  # radial_basis: {n: 8, p: 6}
""",
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
  forces: 100.0        # of the force components
  stress: 0.0          # of the stress; above 0 where the data have it
  # schedule: [{from_fraction: 0.75, energy: 100.0}]    # later weights
train:
  max_time: "01:00:00"  # the learning rate anneals to the end of this, or of max_epochs
  max_epochs: 2000
  batch_size: 5
  learning_rate: 0.01
  dtype: float32       # float32 | float64
  seed: 0
"""


def preset_config(name: str) -> str:
    """YAML of a configuration that needs only `data.train`; raises UserError for a preset that does not exist."""
    if name not in _MODELS:
        near = difflib.get_close_matches(name, PRESETS, 1)
        raise UserError(f"{name!r} is not a preset: {f'did you mean {near[0]!r}?' if near else f'there are {', '.join(_MODELS)}'}")
    head = f"# {name}: equipot train {name}.yaml data.train=frames.xyz\nname: {name}\n"
    return head + _MODELS[name] + _REST
