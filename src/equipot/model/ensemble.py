"""Several potentials of one spec as one: their mean is the potential, their spread says how sure it is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equipot.data.graph import Graph
from equipot.model.potential import Potential, SiteEnergies
from equipot.ops.registry import Ops
from equipot.spec import ModelSpec


class Ensemble(nn.Module):
    """E_i = (1/M) Σ_m E_i^(m) over M ≥ 2 potentials of the same spec, dtype and operations.

    It stands wherever a potential does: `predict` gives the mean energy, and its derivatives, the mean forces and stress; `predict_members` what
    each member says. The members are evaluated one after another on the same graph. `torch.vmap` over stacked weights would gain nothing here:
    the C++ operations take plain tensors, one set of weights a call, so that vmap could only loop over them too, with copies besides; and one
    member at a time needs the memory of one.
    Raises ValueError for fewer than two members or members that differ.
    """

    def __init__(self, members: Sequence[Potential]):
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble has two members or more, not {len(members)}")
        first = members[0]
        for i, other in enumerate(members):
            if other.spec != first.spec or other.dtype != first.dtype:
                raise ValueError(f"member {i} of the ensemble is another model than member 0: all need the same spec and dtype")
        self.members = nn.ModuleList(members)

    def forward(self, graph: Graph, vectors: Tensor) -> SiteEnergies:
        """Mean site energies from the edge vectors (E, 3) float64, Å."""
        sites = [member(graph, vectors) for member in self.members]
        return SiteEnergies(*(torch.stack(parts).mean(0) for parts in zip(*sites, strict=True)))

    def __len__(self) -> int:
        return len(self.members)

    @property
    def spec(self) -> ModelSpec:
        """The point of the design space all members are."""
        return self.members[0].spec

    @property
    def ops(self) -> Ops:
        """The operations of the members."""
        return self.members[0].ops

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and features."""
        return self.members[0].dtype

    @property
    def e0(self) -> Tensor:
        """(n_elements,) eV; the members have them from the same data."""
        return self.members[0].e0

    @property
    def scale(self) -> Tensor:
        """(n_elements,) mean of the members'; they differ only where the scale is trained."""
        return torch.stack([member.scale for member in self.members]).mean(0)

    @property
    def shift(self) -> Tensor:
        """(n_elements,) eV, mean of the members'."""
        return torch.stack([member.shift for member in self.members]).mean(0)


def members_of(potential: Potential | Ensemble) -> list[Potential]:
    """The members of an ensemble, or the one potential."""
    return list(potential.members) if isinstance(potential, Ensemble) else [potential]
