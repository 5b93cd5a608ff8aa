"""What a probe is told: an ordered set of frames, read or made, and the coordinate along it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from equipot.train.config import Files, KeysConfig, Section, UnitsConfig

Count = Annotated[int, Field(ge=3, le=10_000)]
Index = Annotated[int, Field(ge=0)]


class CoordinateSpec(Section):
    """The number that orders the frames: one of these keys."""

    field: str | None = None
    """a field of the frame, as the file names it"""
    component: Index | None = None
    """of a field that is a list: which of its numbers"""
    distance: list[Index] | None = None
    """of two atoms by number, Å (nearest image where periodic)"""
    angle: list[Index] | None = None
    """of three atoms, degrees"""
    dihedral: list[Index] | None = None
    """of four atoms, degrees from 0 to 360"""
    strain: Literal["volume", "xx", "yy", "zz", "yz", "xz", "xy"] | None = None
    """of the cell against that of frame `zero`: (V/V0) - 1, or a component of the symmetric strain"""
    volume: Literal["per-atom"] | None = None
    """of the cell, Å³ per atom"""
    index: Literal["frame"] | None = None
    """the number of the frame in its curve, from 0"""
    zero: Index = 0
    """the frame of no strain"""
    label: str = ""
    """what the axis of plots says; none given: made from the key"""

    @model_validator(mode="after")
    def _one(self) -> "CoordinateSpec":
        if len(self.given) != 1:
            raise ValueError(f"a coordinate is one of {', '.join(KINDS)}: {len(self.given)} are given")
        if (n := N_ATOMS.get(self.kind)) and len(set(getattr(self, self.kind))) != n:
            raise ValueError(f"{self.kind} needs the numbers of {n} different atoms")
        if self.component is not None and self.field is None:
            raise ValueError("component belongs to a field")
        return self

    @property
    def given(self) -> list[str]:
        return [k for k in KINDS if getattr(self, k) is not None]

    @property
    def kind(self) -> str:
        return self.given[0]

    @property
    def axis(self) -> str:
        """The label of an axis, with the unit where it is known."""
        if self.label:
            return self.label
        if self.field is not None:
            return self.field if self.component is None else f"{self.field}[{self.component}]"
        if self.kind in N_ATOMS:
            return f"{self.kind} {'-'.join(map(str, getattr(self, self.kind)))}, {'Å' if self.kind == 'distance' else 'degrees'}"
        return {"strain": f"strain {self.strain}", "volume": "volume, Å³ per atom", "index": "frame"}[self.kind]


KINDS = ("field", "distance", "angle", "dihedral", "strain", "volume", "index")
N_ATOMS = {"distance": 2, "angle": 3, "dihedral": 4}


class DimersSpec(Section):
    """Two atoms alone, for each pair of elements; the last point lies beyond the cutoff, where the energy is that of two atoms."""

    pairs: list[Annotated[str, Field(pattern=r"^[A-Z][a-z]?-[A-Z][a-z]?$")]] | None = None
    """such as [H-O, O-O]; none given: all pairs of the model's elements"""
    start: Annotated[float, Field(gt=0, le=2)] = 0.5
    """shortest distance, in sums of covalent radii"""
    stop: Annotated[float, Field(gt=0)] | None = None
    """longest distance, Å; none given: the cutoff and 0.5 Å"""
    n: Count = 80


class StretchSpec(Section):
    """A bond is stretched and what hangs on its second atom moves along, rigidly; with a hydrogen as second atom: its removal."""

    frame: str
    """the structure to start from, a file or `file@number`"""
    bond: list[Index]
    """numbers of the two atoms; the second moves"""
    start: Annotated[float, Field(gt=0)] = 0.7
    stop: Annotated[float, Field(gt=0)] = 5.0
    """Å"""
    n: Count = 60
    group: list[Index] | None = None
    """the atoms that move; none given: those on the second atom's side of the bond, by covalent radii"""


class RotateSpec(Section):
    """A rigid scan of a dihedral: what hangs on the far side of its middle bond turns."""

    frame: str
    dihedral: list[Index]
    start: float = 0.0
    stop: float = 360.0
    """degrees"""
    n: Count = 73
    group: list[Index] | None = None


class TransferSpec(Section):
    """A proton moves straight from where it is to the mirror of its place at the acceptor, all else held."""

    frame: str
    donor: Index
    hydrogen: Index
    acceptor: Index
    n: Count = 41


class LineSpec(Section):
    """A straight line through two structures of equal atoms: a normal mode from the equilibrium and one displaced frame, or any path."""

    frame: str
    """where the coordinate is 0"""
    towards: str
    """where it is 1"""
    start: float = -1.5
    stop: float = 1.5
    n: Count = 61


class VolumeSpec(Section):
    """A crystal compressed and expanded: energy against volume, fractional positions held."""

    frame: str
    start: Annotated[float, Field(gt=0)] = 0.7
    stop: Annotated[float, Field(gt=0)] = 1.4
    """in volumes of the frame"""
    n: Count = 41


class GenerateSpec(Section):
    """Frames made here, without a reference: one of these keys."""

    dimers: DimersSpec | None = None
    stretch: StretchSpec | None = None
    rotate: RotateSpec | None = None
    transfer: TransferSpec | None = None
    line: LineSpec | None = None
    volume: VolumeSpec | None = None

    @model_validator(mode="after")
    def _one(self) -> "GenerateSpec":
        if len(self.given) != 1:
            raise ValueError(f"generate one of {', '.join(type(self).model_fields)}: {len(self.given)} are given")
        for part, key, n in ((self.stretch, "bond", 2), (self.rotate, "dihedral", 4)):
            if part is not None and len(set(getattr(part, key))) != n:
                raise ValueError(f"{key} needs the numbers of {n} different atoms")
        made = self.made
        if made.__class__ in (StretchSpec, RotateSpec, LineSpec, VolumeSpec) and made.start >= made.stop:
            raise ValueError("start must lie below stop")
        return self

    @property
    def given(self) -> list[str]:
        return [k for k in type(self).model_fields if getattr(self, k) is not None]

    @property
    def kind(self) -> str:
        return self.given[0]

    @property
    def made(self) -> Section:
        return getattr(self, self.given[0])


class ProbeSpec(Section):
    """Frames with their labels from `frames`, or frames of `generate`, and the coordinate along which they are looked at."""

    name: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    """of the file of its curves; none given: that of the folder it is written to"""
    frames: Files | None = None
    """a file or files of frames, `file@0:50` for a part"""
    generate: GenerateSpec | None = None
    coordinate: CoordinateSpec | None = None
    """needed with `frames`; generated frames have their own"""
    curves: Literal["composition", "one"] | str = "composition"
    """what tells curves of one probe apart: the composition, a field of the frames, `field[i]` for the i-th number of one, or `one`"""
    keys: KeysConfig = KeysConfig()
    units: UnitsConfig = UnitsConfig()

    @model_validator(mode="after")
    def _source(self) -> "ProbeSpec":
        if (self.frames is None) == (self.generate is None):
            raise ValueError("a probe has either frames, a file, or generate")
        if self.frames is not None and self.coordinate is None:
            raise ValueError(f"a probe of frames needs a coordinate: one of {', '.join(KINDS)}")
        if self.generate is not None and self.coordinate is not None:
            raise ValueError("generated frames have their own coordinate: leave coordinate out")
        return self

    def files(self) -> list[str]:
        """The files a probe reads, so that their absence is an error before anything runs."""
        if self.frames is not None:
            return [self.frames] if isinstance(self.frames, str) else list(self.frames)
        made = self.generate.made
        return [f for name in ("frame", "towards") if (f := getattr(made, name, None))]
