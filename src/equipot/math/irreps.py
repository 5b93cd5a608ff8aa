"""Irreducible representations of O(3), and how a feature row is cut into blocks of them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Union

_PARITY = {"e": 1, "o": -1}
_LETTER = {1: "e", -1: "o"}
_TERM = re.compile(r"\s*(?:(\d+)\s*[xX]\s*)?(\d+)([eo])\s*")


class Irrep(NamedTuple):
    """An irreducible representation of O(3): degree l ≥ 0 and parity p = +1 (even) or −1 (odd).

    >>> str(Irrep(1, -1)), Irrep(1, -1).dim, Irrep.parse("2e").natural
    ('1o', 3, True)
    """

    l: int
    p: int

    @classmethod
    def parse(cls, text: str) -> "Irrep":
        """The irrep written as degree and parity letter, such as '1o'; raises ValueError on anything else."""
        match = re.fullmatch(r"\s*(\d+)([eo])\s*", text)
        if match is None:
            raise ValueError(f"irrep {text!r}: expected a degree and a parity letter, such as 1o or 2e")
        return cls(int(match[1]), _PARITY[match[2]])

    @property
    def dim(self) -> int:
        """2l+1."""
        return 2 * self.l + 1

    @property
    def natural(self) -> bool:
        """Whether p = (−1)^l, the parity of the spherical harmonics."""
        return self.p == (-1) ** self.l

    def __str__(self) -> str:
        return f"{self.l}{_LETTER[self.p]}"


class Block(NamedTuple):
    """One irrep of an `Irreps`: `mul` channels of (l, p) at `row[start : stop]`, laid out (2l+1, mul), channels fastest."""

    mul: int
    l: int
    p: int
    start: int

    @property
    def irrep(self) -> Irrep:
        """The (l, p) of the block."""
        return Irrep(self.l, self.p)

    @property
    def dim(self) -> int:
        """2l+1, the components of one channel."""
        return 2 * self.l + 1

    @property
    def stop(self) -> int:
        """One past the last flat index: start + mul·(2l+1)."""
        return self.start + self.mul * self.dim


@dataclass(frozen=True)
class Irreps:
    """A direct sum of irreps in canonical order: each (l, p) once, by l, even before odd, no zero multiplicity.

    Made from (mul, l, p) triples or from `Block`s, in any order; duplicates are merged. Immutable and hashable.
    Raises ValueError for a negative multiplicity or degree, or a parity other than ±1.

    >>> irreps = Irreps.parse("8x1o + 4x0e + 4x0e")
    >>> str(irreps), irreps.dim, irreps.mul(0, 1)
    ('8x0e+8x1o', 32, 8)
    >>> [(block.start, block.stop) for block in irreps]
    [(0, 8), (8, 32)]
    """

    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", _canonical(self.blocks))

    @classmethod
    def parse(cls, text: Union[str, "Irreps"]) -> "Irreps":
        """Read '8x0e+8x1o' ('1o' alone means 1x1o, '' is empty); raises ValueError, one line that says where, on anything else."""
        if isinstance(text, Irreps):
            return text
        if not str(text).strip():
            return cls()
        entries, position = [], 0
        for term in str(text).split("+"):
            match = _TERM.fullmatch(term)
            if match is None:
                raise ValueError(f"irreps {text!r}: cannot read {term.strip()!r} at character {position}; expected a term such as 8x1o")
            entries.append((int(match[1] or 1), int(match[2]), _PARITY[match[3]]))
            position += len(term) + 1
        return cls(tuple(entries))

    @classmethod
    def uniform(cls, n_channels: int, l_max: int, parity: str = "natural") -> "Irreps":
        """`n_channels` of every l ≤ l_max: of parity (−1)^l ('natural'), or of each parity ('both').

        Raises ValueError for another word.

        >>> str(Irreps.uniform(8, 1, "natural")), str(Irreps.uniform(8, 1, "both"))
        ('8x0e+8x1o', '8x0e+8x0o+8x1e+8x1o')
        """
        if parity not in ("natural", "both"):
            raise ValueError(f"parity {parity!r}: expected 'natural' or 'both'")
        both = cls(tuple((n_channels, l, p) for l in range(l_max + 1) for p in (1, -1)))
        return both if parity == "both" else both.restrict(lambda irrep: irrep.natural)

    @property
    def dim(self) -> int:
        """Length of a feature row."""
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def l_max(self) -> int:
        """Highest degree; −1 if empty."""
        return self.blocks[-1].l if self.blocks else -1

    @property
    def scalars(self) -> "Irreps":
        """The l = 0 part, of either parity."""
        return self.restrict(lambda irrep: irrep.l == 0)

    def find(self, l: int, p: int) -> Block | None:
        """The block of (l, p), or None."""
        return next((block for block in self.blocks if (block.l, block.p) == (l, p)), None)

    def mul(self, l: int, p: int) -> int:
        """The number of channels of (l, p), 0 if absent."""
        block = self.find(l, p)
        return 0 if block is None else block.mul

    def restrict(self, keep: Callable[[Irrep], bool]) -> "Irreps":
        """The blocks whose irrep satisfies `keep`, with new offsets."""
        return Irreps(tuple(block for block in self.blocks if keep(block.irrep)))

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __len__(self) -> int:
        """The number of blocks (not of components: that is `dim`)."""
        return len(self.blocks)

    def __str__(self) -> str:
        return "+".join(f"{block.mul}x{block.irrep}" for block in self.blocks)

    def __repr__(self) -> str:
        return f"Irreps('{self}')"


def _canonical(entries: Iterable[tuple[int, ...]]) -> tuple[Block, ...]:
    muls: dict[Irrep, int] = defaultdict(int)
    for mul, l, p, *_ in entries:
        if mul < 0 or l < 0 or p not in (1, -1):
            raise ValueError(f"irreps: multiplicity {mul}, degree {l}, parity {p}: expected mul ≥ 0, l ≥ 0 and p = ±1")
        muls[Irrep(l, p)] += mul
    blocks, start = [], 0
    for irrep in sorted(muls, key=lambda irrep: (irrep.l, -irrep.p)):
        if muls[irrep]:
            blocks.append(Block(muls[irrep], irrep.l, irrep.p, start))
            start = blocks[-1].stop
    return tuple(blocks)
