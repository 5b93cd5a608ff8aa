"""equipot: train, run and study E(3)-equivariant machine-learned interatomic potentials."""

__version__ = "0.1.0"
