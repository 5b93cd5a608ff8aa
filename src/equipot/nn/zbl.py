"""The Ziegler-Biersack-Littmark repulsion of two nuclei, screened and cut off."""

import torch
from torch import Tensor, nn

from equipot.ops import geometry
from equipot.ops.plan import Edges
from equipot.ops.reference import segment_sum

CONSTANTS = {
    # name: (e²/4πε0 in eV Å, prefactor of the screening length in Å, exponent of Z, (c, d) of Σ c exp(−d r/a))
    "lammps": (14.399645, 0.46850, 0.23, ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229), (0.18175, 3.19980))),
    "mace": (14.3996, 0.4543 * 0.529, 0.3, ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))),
}


class ZBL(nn.Module):
    """Each atom's half of its repulsions: E_i = ½ Σ_j q² Z_i Z_j φ(r/a)/r · u(r/r_c), float64, eV.

    a = a_0/(Z_i^x + Z_j^x), φ(s) = Σ c exp(−d s), u the polynomial envelope of exponent p. `constants` names a set of q², a_0, x, c, d: "lammps"
    (also nequip's) or "mace". `atomic_numbers` (n,); `cutoff` (n, n) Å, r_c by the elements of centre and neighbour; `scaled`: times the energy's scale.
    Input vectors (E, 3) float64 Å, species (N,), scale (N,); output (N,).
    """

    def __init__(self, atomic_numbers: Tensor, cutoff: Tensor, p: int, constants: str, scaled: bool):
        super().__init__()
        self.p, self.scaled = p, scaled
        self.square_charge, length, exponent, self.screening = CONSTANTS[constants]
        z = atomic_numbers.double()
        self.register_buffer("_product", z[:, None] * z[None, :], persistent=False)
        self.register_buffer("_length", length / (z[:, None] ** exponent + z[None, :] ** exponent), persistent=False)
        self.register_buffer("_cutoff", cutoff.double(), persistent=False)

    def forward(self, vectors: Tensor, species: Tensor, edges: Edges, scale: Tensor) -> Tensor:
        r = torch.linalg.vector_norm(vectors, dim=1)
        pair = (species[edges.receiver], species[edges.sender])
        s = r / self._length[pair]
        screening = sum(c * torch.exp(-d * s) for c, d in self.screening)
        repulsion = 0.5 * self.square_charge * self._product[pair] / r * screening
        energy = segment_sum(repulsion * geometry.polynomial_envelope(r, self._cutoff[pair], self.p), edges.receiver, species.shape[0])
        return energy * scale if self.scaled else energy


class NoPair(nn.Module):
    """No pair term."""

    def forward(self, vectors: Tensor, species: Tensor, edges: Edges, scale: Tensor) -> Tensor:
        return torch.zeros_like(scale)
