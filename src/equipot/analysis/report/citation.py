"""What to cite: the papers a model rests on, in words and as BibTeX."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One publication."""

    key: str
    authors: str  # as BibTeX takes them
    title: str
    journal: str
    volume: str
    pages: str
    year: int
    doi: str = ""

    @property
    def words(self) -> str:
        """First author, title, where and when."""
        first, _, rest = self.authors.partition(" and ")
        where = " ".join(part for part in (self.journal, self.volume) if part) + (f", {self.pages}" if self.pages else "")
        return f"{first}{' et al.' if rest else ''}, {self.title}, {where} ({self.year})"

    @property
    def bibtex(self) -> str:
        """One entry."""
        fields = {"author": self.authors, "title": f"{{{self.title}}}", "journal": self.journal, "volume": self.volume, "pages": self.pages}
        fields |= {"year": str(self.year), "doi": self.doi}
        return f"@article{{{self.key},\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items() if v) + "}"


SPACE = Paper(
    "batatia2025design",
    "I. Batatia and S. Batzner and D. P. Kovács and A. Musaelian and G. N. C. Simm and R. Drautz and C. Ortner and B. Kozinsky and G. Csányi",
    "The design space of E(3)-equivariant atom-centred interatomic potentials",
    "Nat. Mach. Intell.",
    "7",
    "56-67",
    2025,
    "10.1038/s42256-024-00956-x",
)
NEQUIP = Paper(
    "batzner2022nequip",
    "S. Batzner and A. Musaelian and L. Sun and M. Geiger and J. P. Mailoa and M. Kornbluth and N. Molinari and T. E. Smidt and B. Kozinsky",
    "E(3)-equivariant graph neural networks for data-efficient and accurate interatomic potentials",
    "Nat. Commun.",
    "13",
    "2453",
    2022,
    "10.1038/s41467-022-29939-5",
)
MACE = Paper(
    "batatia2022mace",
    "I. Batatia and D. P. Kovács and G. N. C. Simm and C. Ortner and G. Csányi",
    "MACE: Higher order equivariant message passing neural networks for fast and accurate force fields",
    "Adv. Neural Inf. Process. Syst.",
    "35",
    "11423-11436",
    2022,
)
ACE = Paper(
    "drautz2019ace",
    "R. Drautz",
    "Atomic cluster expansion for accurate and transferable interatomic potentials",
    "Phys. Rev. B",
    "99",
    "014104",
    2019,
    "10.1103/PhysRevB.99.014104",
)
SCHNET = Paper(
    "schutt2018schnet",
    "K. T. Schütt and H. E. Sauceda and P.-J. Kindermans and A. Tkatchenko and K.-R. Müller",
    "SchNet - A deep learning architecture for molecules and materials",
    "J. Chem. Phys.",
    "148",
    "241722",
    2018,
    "10.1063/1.5019779",
)
BY_PRESET = {"nequip": NEQUIP, "mace": MACE, "ace": ACE, "schnet": SCHNET}


def papers(preset: str) -> list[Paper]:
    """What a model of this preset rests on: its own paper, if it has one, and the design space (BOTNet's paper)."""
    return [paper for name, paper in BY_PRESET.items() if preset.startswith(name)] + [SPACE]


def program(version: str) -> str:
    """The program itself as a BibTeX entry."""
    return f"@software{{equipot,\n  author = {{equipot developers}},\n  title = {{equipot}},\n  version = {{{version}}},\n}}"
