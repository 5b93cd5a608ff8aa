"""Equation of state, elastic constants and phonons of crystals known in closed form."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from equipot.analysis.observables.crystal import Crystal, prepare
from equipot.analysis.observables.elastic import elastic_constants
from equipot.analysis.observables.eos import equation_of_state
from equipot.analysis.observables.phonons import phonons
from equipot.analysis.observables.result import CannotObserveError, Observable
from equipot.analysis.observables.settings import Settings

# Lennard-Jones between nearest neighbours alone: springs of constant k at their rest length r0 on an fcc lattice
EPSILON, SIGMA = 0.01, 3.4
R0 = 2 ** (1 / 6) * SIGMA
LATTICE = np.sqrt(2.0) * R0
SPRING = 36.0 * 2 ** (2 / 3) * EPSILON / SIGMA**2
MASS = 39.948
SETTINGS = Settings(supercell=8.0, strain=1e-3, volumes=(0.985, 1.015, 9))


@pytest.fixture(scope="module")
def springs() -> Crystal:
    start = bulk("Ar", "fcc", 1.01 * LATTICE, cubic=True)
    return prepare(start, LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=1.35 * SIGMA))


def value(observable: Observable, name: str) -> float:
    return next(v.value for v in observable.values if v.name == name)


def test_relaxes_to_its_symmetry(springs: Crystal) -> None:
    assert springs.space_group == "Fm-3m (225)"
    assert (len(springs.primitive), len(springs.conventional)) == (1, 4)
    assert springs.conventional.cell.lengths() == pytest.approx([LATTICE] * 3, rel=1e-5)


def test_elastic_constants_of_springs(springs: Crystal) -> None:
    """C11 = 2k/a, C12 = C44 = k/a; nothing else."""
    found = elastic_constants(springs, SETTINGS)
    known = SPRING / LATTICE / units.GPa
    expected = np.zeros((6, 6))
    expected[:3, :3] = known * (1.0 + np.eye(3))
    expected[3:, 3:] = known * np.eye(3)
    np.testing.assert_allclose(found.data["matrix_GPa"], expected, atol=2e-3 * known)
    assert value(found, "B (Hill)") == pytest.approx(4.0 / 3.0 * known, rel=2e-3)
    assert found.data["stable"]


def test_equation_of_state_of_springs(springs: Crystal) -> None:
    """V0, E0 = −6 ε (less the shift at the cutoff) and B = 4k/3a."""
    found = equation_of_state(springs, SETTINGS)
    cut = 1.35**-6
    assert value(found, "V0") == pytest.approx(LATTICE**3 / 4, rel=1e-5)
    assert value(found, "E0") == pytest.approx(-6.0 * (EPSILON + 4.0 * EPSILON * (cut**2 - cut)), rel=1e-4)
    assert value(found, "B0") == pytest.approx(4.0 / 3.0 * SPRING / LATTICE / units.GPa, rel=1e-3)


def test_phonons_of_springs(springs: Crystal) -> None:
    """At X ω² = 8k/m along and 4k/m across; three branches from zero; the density of states ends at the highest."""
    bands, density = phonons(springs, SETTINGS)
    x = bands.curves[0].x
    first_x = next(at for at, name in bands.ticks if name == "X")
    at_x = np.sort([c.y[np.argmin(np.abs(x - first_x))] for c in bands.curves])
    unit = np.sqrt(SPRING / MASS) / (2.0 * np.pi) * units.fs * 1e3  # THz
    np.testing.assert_allclose(at_x, unit * np.sqrt([4.0, 4.0, 8.0]), rtol=2e-3)
    assert [c.y[0] for c in bands.curves] == pytest.approx([0.0] * 3, abs=1e-3)
    curve = density.curves[0]
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(1.0)
    assert curve.y[curve.x > 1.05 * value(bands, "highest frequency")].max(initial=0.0) < 1e-2 * curve.y.max()
    assert not any("imaginary" in note for note in bands.notes)


def test_copper_agrees_with_itself_and_ase() -> None:
    """EMT: the bulk modulus from the energy's curve is that from strains; ASE's documentation gives 134 GPa and 11.565 Å³."""
    copper = prepare(bulk("Cu", cubic=True), EMT())
    state, elastic = equation_of_state(copper, Settings()), elastic_constants(copper, Settings())
    assert value(state, "B0") == pytest.approx(134.0, abs=1.0)
    assert value(state, "V0") == pytest.approx(11.565, abs=0.005)
    assert value(elastic, "B (Voigt)") == pytest.approx(value(state, "B0"), rel=5e-3)


def test_an_unstable_crystal_is_told_of() -> None:
    """Lennard-Jones atoms on a bcc lattice shear into another: C11 < C12, and a mode is imaginary."""
    cubic = prepare(bulk("Ar", "bcc", 4.1), LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=2.2 * SIGMA, smooth=True))
    found = elastic_constants(cubic, SETTINGS)
    assert value(found, "C11") < value(found, "C12") and not found.data["stable"]
    assert any("not stable" in note for note in found.notes)
    assert any("imaginary" in note for note in phonons(cubic, SETTINGS)[0].notes)


def test_what_is_no_crystal() -> None:
    calculator = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=1.35 * SIGMA)
    slab = bulk("Ar", "fcc", LATTICE)
    slab.pbc = [True, True, False]
    with pytest.raises(CannotObserveError, match="not periodic"):
        prepare(slab, calculator)
    liquid = bulk("Ar", "fcc", LATTICE, cubic=True) * (2, 2, 2)
    liquid.rattle(0.5, seed=0)
    with pytest.raises(CannotObserveError, match="without any symmetry.*--crystal"):
        prepare(liquid, calculator)


def test_no_minimum_in_range(springs: Crystal) -> None:
    with pytest.raises(CannotObserveError, match="no minimum"):
        equation_of_state(springs, Settings(volumes=(1.06, 1.12, 7)))
