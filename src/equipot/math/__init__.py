"""The mathematics: irreps, couplings, rotations, harmonics and radial families, in exact or float64 numpy; no torch."""

from equipot.math.coupling import E3NN_044_FLIPPED, clebsch_gordan
from equipot.math.harmonics import real_harmonics, real_harmonics_gradient
from equipot.math.irreps import Block, Irrep, Irreps
from equipot.math.symmetric import SparseCoupling, symmetric_coupling, symmetric_multiplicity
from equipot.math.wigner import representation, transform_features, wigner_d

__all__ = [
    "E3NN_044_FLIPPED",
    "Block",
    "Irrep",
    "Irreps",
    "SparseCoupling",
    "clebsch_gordan",
    "real_harmonics",
    "real_harmonics_gradient",
    "representation",
    "symmetric_coupling",
    "symmetric_multiplicity",
    "transform_features",
    "wigner_d",
]
