"""Reference energies: isolated atoms, given, fitted, or the mean where nothing tells the elements apart."""

import logging

import numpy as np
import pytest

from equipot.data.elements import isolated_energies, separate_isolated
from equipot.data.frame import Frame
from equipot.data.references import reference_energies
from equipot.errors import UserError

E0 = {"H": -13.6, "C": -1029.5, "O": -2041.9}
NUMBERS = {"H": 1, "C": 6, "O": 8}


def frame(symbols, energy=None, config_type="default", pbc=False, index=0):
    numbers = np.array([NUMBERS[s] for s in symbols])
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    return Frame(numbers, positions, 9.0 * np.eye(3), np.full(3, pbc), energy, config_type=config_type, source=f"a.xyz#{index}")


def bound(symbols, extra=0.0):
    return frame(symbols, sum(E0[s] for s in symbols) + extra)


@pytest.mark.parametrize("name", ["isolated_atom", "IsolatedAtom", "ISOLATED_ATOM", "isolatedatom", "Isolated-Atom"])
def test_isolated_by_name(name):
    frames = [bound("HHO"), frame("H", -13.6, name, pbc=True), frame("O", -2041.9, name)]
    rest, isolated = separate_isolated(frames)
    assert rest == frames[:1]
    assert isolated_energies(isolated) == {"H": -13.6, "O": -2041.9}


def test_single_atoms():
    """Alone without periodicity it is a free atom; with periodicity and no name it is a crystal."""
    crystal, free = frame("C", -1.0, pbc=True), frame("C", -1.0)
    assert separate_isolated([crystal, free]) == ([crystal], [free])


def test_isolated_atoms_that_cannot_be():
    with pytest.raises(UserError, match=r"a.xyz, frame 3: config_type 'IsolatedAtom' on 2 atoms"):
        separate_isolated([frame("HH", 1.0, "IsolatedAtom", index=3)])
    with pytest.raises(UserError, match=r"frame 4: an isolated H atom without an energy"):
        isolated_energies([frame("H", index=4)])
    with pytest.raises(UserError, match=r"frame 5: an isolated H atom whose energy differs by 0.1 eV from a.xyz#0"):
        isolated_energies([frame("H", -13.6), frame("H", -13.5, index=5)])
    assert isolated_energies([frame("H", -13.6), frame("H", -13.6000001)]) == {"H": -13.6}


def test_isolated_first_then_given(caplog):
    isolated = [frame("H", -13.6), frame("O", -2041.9)]
    references = reference_energies([bound("HHO", -9.0)], isolated)
    assert (references.kind, references.energies) == ("isolated", {"H": -13.6, "O": -2041.9})
    mixed = reference_energies([bound("CHO")], isolated, {"C": -1029.5, "H": -10.0})
    assert mixed.energies == E0
    assert "given values of H differ" in mixed.message
    assert "given values of H differ" in caplog.text
    given = reference_energies([bound("HHO")], None, {"H": -13, "O": -2000.0, "C": 0.0})
    assert (given.kind, given.energies) == ("given", {"H": -13.0, "O": -2000.0})
    np.testing.assert_allclose(given.as_array(["O", 1]), [-2000.0, -13.0])
    assert given.of(bound("HHO")) == -2026.0


def test_some_elements_without_a_reference():
    with pytest.raises(UserError, match=r"no reference energy of C \(there are H"):
        reference_energies([bound("CHO")], [frame("H", -13.6), frame("O", -2041.9)])
    frames = [bound("CHO"), bound("HHO"), bound("CO"), bound("H")]
    assert reference_energies(frames, [frame("H", -99.0)], "least-squares").energies == pytest.approx(E0)


def test_least_squares_and_its_warning(caplog):
    frames = [bound(s) for s in ("HHO", "CHHHH", "CO", "COO", "HH")]
    with caplog.at_level(logging.WARNING, "equipot.data"):
        references = reference_energies(frames)
    assert references.kind == "least-squares"
    assert references.energies == pytest.approx(E0, abs=1e-8)
    assert "dissociation" in caplog.text
    assert "least squares" in caplog.text


@pytest.mark.parametrize("given", [None, "least-squares"])
def test_one_composition_gives_the_mean(given, caplog):
    frames = [bound("HHO", e) for e in (-9.0, -9.6)] + [bound("HHOHHO", -18.6)]
    with caplog.at_level(logging.WARNING, "equipot.data"):
        references = reference_energies(frames, given=given)
    assert references.kind == "mean"
    assert references.energies["H"] == references.energies["O"] == pytest.approx((2 * -13.6 - 2041.9 - 9.3) / 3)
    assert "one composition" in caplog.text
    assert "dissociation" in references.message


def test_one_element_is_identifiable():
    assert reference_energies([bound("HH"), bound("HHH")]).kind == "least-squares"


def test_wrong_values():
    for given in ({"H": "a"}, {"H": float("nan")}, {"H": True}, {"Zz": 1.0}, "mean"):
        with pytest.raises(UserError):
            reference_energies([bound("HH")], given=given)
    with pytest.raises(UserError, match="no frame has an energy"):
        reference_energies([frame("HH")])
