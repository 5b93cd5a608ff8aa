"""Radial and angular distributions and coordination numbers of what is known."""

from dataclasses import replace

import numpy as np
import pytest
from known_trajectories import ARGON, SHEARED, XENON, fcc, ideal_gas, trajectory

from equipot.analysis.observables import rdf as rdf_file
from equipot.analysis.observables.angles import angles, pairs_in_groups
from equipot.analysis.observables.blocks import Blocked
from equipot.analysis.observables.bonds import bond_lengths, first_minimum
from equipot.analysis.observables.coordination import MOST, coordination
from equipot.analysis.observables.pairs import default_reach, smallest_width
from equipot.analysis.observables.rdf import rdf
from equipot.analysis.observables.result import CannotObserveError, Curve
from equipot.analysis.observables.settings import Settings

COARSE = Settings(r_bin=0.5, r_max=3.4)


@pytest.mark.parametrize("r_max", [3.4, 12.0], ids=["within half the cell", "over its own images"])
def test_ideal_gas_is_one(r_max: float) -> None:
    """Also of five atoms, in a sheared cell, with atoms outside it; the error bars are as large as the departures."""
    numbers = np.array([ARGON] * 5 + [XENON] * 2)
    gas = ideal_gas(7, 800, numbers=numbers)
    found = rdf(gas, Settings(r_bin=0.5, r_max=r_max))
    assert [c.name for c in found.curves] == ["Ar-Ar", "Ar-Xe", "Xe-Xe"]
    if r_max < smallest_width(gas):
        off = np.concatenate([((c.y - 1.0) / c.error)[2:] for c in found.curves])  # the first bins hold hardly a pair
        assert np.abs(off).max() < 5.0
        assert 0.5 < np.sqrt(np.mean(off**2)) < 1.7
    else:
        far = found.curve("Ar-Xe")
        np.testing.assert_allclose(far.y[far.x > 4.0], 1.0, atol=0.06)


def test_ideal_gas_with_a_wrong_norm_is_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above sees a density that counts the centre too."""
    monkeypatch.setattr(rdf_file, "smallest_width", lambda t: 0.0)
    curve = rdf(ideal_gas(5, 800), COARSE).curve("Ar-Ar")
    assert np.abs((curve.y - 1.0) / curve.error).max() > 8.0


def test_same_as_freud() -> None:
    """A library of its own, on a sheared cell of two elements; freud works in single precision."""
    freud = pytest.importorskip("freud")
    frames = ideal_gas(40, 6, numbers=np.array([ARGON] * 25 + [XENON] * 15), seed=4)
    found = rdf(frames, COARSE)
    box = freud.box.Box.from_matrix(SHEARED.T)
    for name, a, b in (("Ar-Ar", slice(0, 25), slice(0, 25)), ("Ar-Xe", slice(0, 25), slice(25, 40))):
        theirs = freud.density.RDF(bins=7, r_max=3.4, normalization_mode="finite_size" if a == b else "exact")
        for positions in frames.positions:
            wrapped = box.wrap(positions)
            theirs.compute((box, wrapped[b]), wrapped[a], neighbors={"r_max": 3.4, "exclude_ii": a == b}, reset=False)
        np.testing.assert_allclose(found.curve(name).y, theirs.rdf, rtol=1e-3, atol=2e-3)


def test_fcc() -> None:
    """Twelve neighbours, at a/√2; 66 pairs of them at 60, 90, 120 and 180 degrees: 24, 12, 24 and 6."""
    crystal = fcc(noise=1e-4)
    found = rdf(crystal, Settings())
    bonds = bond_lengths(found, {})
    assert 3.6 / np.sqrt(2.0) < bonds["Cu", "Cu"] < 3.6
    numbers = coordination(crystal, Settings(), bonds)
    assert numbers.values[0].value == 12.0
    assert numbers.curve("Cu-Cu").y[12] == pytest.approx(1.0)
    curve = angles(crystal, Settings(angle_bin=10.0), bonds).curve("Cu-Cu-Cu")
    share = curve.y * 10.0
    assert share.sum() == pytest.approx(1.0)
    near = {angle: share[np.abs(curve.x - angle) < 11.0].sum() for angle in (60, 90, 120, 180)}
    assert near == pytest.approx({60: 24 / 66, 90: 12 / 66, 120: 24 / 66, 180: 6 / 66})


def test_integral_of_rdf_is_the_coordination_number() -> None:
    crystal = fcc(noise=0.1, n_frames=8)
    curve = rdf(crystal, Settings()).curve("Cu-Cu")
    length = first_minimum(curve)
    inside = curve.x < length
    density = (len(crystal.numbers) - 1) / crystal.volumes[0]
    integral = float((4.0 * np.pi * density * curve.x**2 * curve.y)[inside].sum() * (curve.x[1] - curve.x[0]))
    assert coordination(crystal, Settings(), {("Cu", "Cu"): length}).values[0].value == pytest.approx(integral, rel=1e-3)


def test_one_atom_in_its_cell_meets_its_images() -> None:
    atoms = trajectory(np.zeros((1, 1, 3)), 3.0 * np.eye(3))
    found = rdf(atoms, Settings(r_max=3.5, r_bin=0.1))
    assert coordination(atoms, Settings(), bond_lengths(found, {})).values[0].value == 6.0
    assert np.isnan(found.curves[0].error).all()


def test_more_neighbours_than_are_shown_count_as_the_most() -> None:
    """26 of them, the images across faces, edges and corners: all in the mean, and the last point of the curve is theirs."""
    found = coordination(trajectory(np.zeros((2, 1, 3)), 3.0 * np.eye(3)), Settings(), {("Ar", "Ar"): 5.5})
    assert found.values[0].value == 26.0
    assert (found.curves[0].x[-1], found.curves[0].y[-1]) == (MOST, 1.0)


def test_the_cell_of_each_frame_counts() -> None:
    """Two volumes: g(r) is one in a gas whose cell changes."""
    small, large = ideal_gas(6, 600), ideal_gas(6, 600, cell=1.3 * SHEARED, seed=1)
    both = replace(small, positions=np.concatenate([small.positions, large.positions]), cells=np.concatenate([small.cells, large.cells]))
    curve = rdf(both, Settings(r_bin=0.5, r_max=3.4)).curve("Ar-Ar")
    np.testing.assert_allclose(curve.y[3:], 1.0, atol=0.12)


def test_molecule_has_a_histogram_of_distances() -> None:
    """No g(r): neighbours per atom and Å, whose integral is their number."""
    positions = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.5], [0.0, 0.0, 3.0]]])
    found = rdf(trajectory(positions, np.zeros((3, 3)), pbc=(False, False, False)), Settings(r_bin=0.1))
    curve = found.curve("Ar-Ar")
    assert curve.y.sum() * (curve.x[1] - curve.x[0]) == pytest.approx(2.0)
    assert "no density" in found.notes[0] and "g(r)" not in found.y_label


def test_slab_has_one_too() -> None:
    slab = replace(ideal_gas(7, 4), pbc=np.array([True, True, False]))
    assert "no density" in rdf(slab, COARSE).notes[0]


def test_gas_has_no_bonds() -> None:
    gas = ideal_gas(30, 60)
    found = bond_lengths(rdf(gas, Settings(r_bin=0.1)), {})
    with pytest.raises(CannotObserveError, match="--bond"):
        coordination(gas, Settings(), found)
    given = bond_lengths(rdf(gas, Settings(r_bin=0.1)), {("Ar", "Ar"): 3.0})
    assert coordination(gas, Settings(), given).values[0].unit == "within 3.00 Å"


@pytest.mark.parametrize(("between", "expected"), [(0.0, 2.0), (0.5, 2.0)], ids=["nothing between shells", "shells that touch"])
def test_first_minimum_of_two_shells(between: float, expected: float) -> None:
    """Also where noise makes the shells ragged; noise alone has none, however high its first spikes."""
    x = np.arange(0.01, 6.0, 0.02)
    rng = np.random.default_rng(0)
    shells = 2.0 * np.exp(-(((x - 1.4) / 0.12) ** 2)) + 1.2 * np.exp(-(((x - 2.6) / 0.12) ** 2)) + np.where(x > 3.0, 1.0, 0.0)
    if between:
        shells += between * np.exp(-(((x - 1.4) / 0.5) ** 2)) + between * np.exp(-(((x - 2.6) / 0.5) ** 2))
    ragged = shells * np.maximum(0.0, 1.0 + 0.3 * rng.standard_normal((8, len(x))))
    assert first_minimum(Curve("A-A", x, Blocked.of(ragged))) == pytest.approx(expected, abs=0.1)
    noise = 1.0 + rng.standard_normal((8, len(x))) * 0.5 / x
    assert first_minimum(Curve("A-A", x, Blocked.of(np.maximum(noise, 0.0)))) is None


def test_angles_at_random_are_a_sine() -> None:
    curve = angles(ideal_gas(40, 60), Settings(angle_bin=10.0), {("Ar", "Ar"): 3.0}).curve("Ar-Ar-Ar")
    np.testing.assert_allclose(curve.y, np.pi / 360.0 * np.sin(np.radians(curve.x)), atol=4 * curve.error.max())


def test_mixed_angles_are_counted_whichever_way_round() -> None:
    """A bent X-Y-Z of three elements has one angle."""
    positions = np.array([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    bent = trajectory(positions, np.zeros((3, 3)), np.array([8, 6, 1]), pbc=(False, False, False))
    found = angles(bent, Settings(angle_bin=10.0), {("C", "O"): 1.2, ("C", "H"): 1.2})
    assert [c.name for c in found.curves] == ["H-C-O"]
    assert found.curves[0].x[np.argmax(found.curves[0].y)] == pytest.approx(95.0, abs=5.1)


def test_pairs_in_groups() -> None:
    first, second = pairs_in_groups(np.array([3, 0, 1, 2]))
    assert list(zip(first, second, strict=True)) == [(0, 1), (0, 2), (1, 2), (4, 5)]


def test_width_of_a_sheared_cell() -> None:
    """The distance of its faces, not the length of its vectors."""
    cell = np.array([[10.0, 0.0, 0.0], [9.0, 2.0, 0.0], [0.0, 0.0, 10.0]])
    flat = trajectory(np.zeros((1, 1, 3)), cell)
    assert smallest_width(flat) == pytest.approx(2.0)
    assert default_reach(flat) == 6.0
