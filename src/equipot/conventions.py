"""Signs, index order, normalisation and units: stated once, here; every other file follows.

* Edge vector: r = position of the neighbour (sender) − position of the centre (receiver) + shift.
* Harmonics: real, component order of l = 1 is (x, y, z) (polar axis y), Σ_m Y_lm² = 2l + 1.
* Clebsch-Gordan: C[m1, m2, m3] = √(2 l3 + 1) · w3j with w3j of unit Frobenius norm.
* Feature row: blocks in irreps order, each (2l+1, K), channels fastest.
* Cell: rows are lattice vectors. Stress: σ = (1/V) ∂E/∂ε, tensile positive; virial = −V σ.
* Units: eV, Å, eV/Å, eV/Å³, fs, amu.
"""

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""ASE's Voigt order: xx yy zz yz xz xy."""

SECOND_MOMENT = {
    "silu": 1.6791767923989418,
    "tanh": 1.5937334472592695,
    "abs": 1.001110600838467,
    "relu": 1.4163393446331365,
    "gelu": 1.5360642850770578,
    "mish": 1.4891609082630326,
    "ssp": 1.8755962561350412,
    "identity": 1.0,
}
"""Factor c with ⟨(c·act(x))²⟩ = 1 for x ~ N(0, 1): e3nn's sampled values, so that its models keep their numbers; of ssp the exact one."""

SCHEMA_VERSION = 2
"""Newest version of the model file's header that can be read: 1 is one potential; 2 may hold an ensemble or uncertainties.

A file states the oldest that will do.
"""
