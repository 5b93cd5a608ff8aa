"""Preflight on made-up data: each thing it looks for, found where it is and not where it is not."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from equipot.data.frame import Frame
from equipot.data.preflight import preflight
from equipot.data.references import References, reference_energies
from equipot.errors import UserError

ALL = {"energy", "forces", "stress"}


def frames(n=12, file="train.xyz", seed=0, periodic=False, **change):
    """Water-like molecules at random, or a strained simple cubic crystal of 8 atoms, with labels that make sense."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        if periodic:
            cell = 6.0 * np.eye(3) * (1 + 0.01 * rng.normal())
            grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
            positions, numbers = grid @ cell + rng.normal(0, 0.02, (8, 3)), np.full(8, 14)
        else:
            cell = np.zeros((3, 3))
            positions = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0.0]]) + rng.normal(0, 0.03, (3, 3))
            numbers = np.array([8, 1, 1])
        forces = rng.normal(0, 1, positions.shape)
        values = {
            "numbers": numbers,
            "positions": positions,
            "cell": cell,
            "pbc": np.full(3, periodic),
            "energy": -2070.0 + 0.05 * rng.normal(),
            "forces": forces - forces.mean(axis=0),
            "stress": 0.01 * rng.normal(size=(3, 3)) if periodic else None,
            "source": f"{file}#{i}",
        }
        out.append(Frame(**{**values, **change}))
    return out


def found(report, code):
    (finding,) = [f for f in report.findings if f.code == code]
    return finding


def codes(report, level=None):
    return {f.code for f in report.findings if level in (None, f.level)}


def test_nothing_found():
    report = preflight(frames(), frames(4, "held.xyz", 1), {"test": frames(4, "test.xyz", 2)})
    assert not report.findings
    report.raise_errors()
    assert [(c.file, c.role, c.n_frames) for c in report.counts] == [
        ("train.xyz", "train", 12),
        ("held.xyz", "validation", 4),
        ("test.xyz", "test", 4),
    ]


def test_counts_per_file_and_property():
    mixed = frames(5, periodic=True)
    mixed[1] = replace(mixed[1], stress=None, config_type="hot")
    mixed[2] = replace(mixed[2], forces=None, stress=None)
    atom = Frame(
        np.array([14]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), -1.0, config_type="isolated_atom", source="train.xyz#9"
    )
    report = preflight([*mixed, atom], requested=ALL)
    (count,) = report.counts
    assert count.labels == {"energy": 5, "forces": 4, "stress": 3}
    assert (count.n_frames, count.n_isolated, count.config_types) == (5, 1, {"default": 4, "hot": 1})
    assert found(report, "some-stress-missing").frames == (1, 2)
    assert found(report, "some-forces-missing").frames == (2,)
    assert not report.errors
    console = Console(width=160, record=True)
    console.print(report)
    assert "hot 1" in console.export_text()


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_requested_label_missing_in_a_file(label):
    bad = frames(3, "bad.xyz", 1, **{label: None})
    report = preflight(frames() + bad)
    assert found(report, f"{label}-missing").level == "error"
    assert found(report, f"{label}-missing").file == "bad.xyz"
    with pytest.raises(UserError, match=rf"bad.xyz, frame 0 \(and 2 more\): no frame has {label}"):
        report.raise_errors()
    assert found(preflight(frames(), bad), f"{label}-missing").level == "error"
    assert found(preflight(frames(), tests={"t": bad}), f"{label}-missing").level == "warning"
    assert f"{label}-missing" not in codes(preflight(frames() + bad, requested={"energy", "forces"} - {label}))


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(label, bad):
    data = frames(6, periodic=True)
    value = bad if label == "energy" else getattr(data[4], label).copy()
    if label != "energy":
        value[1, 2] = bad
    data[4] = replace(data[4], **{label: value})
    finding = found(preflight(data, requested=ALL), f"{label}-not-finite")
    assert (finding.level, finding.file, finding.frame) == ("error", "train.xyz", 4)


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
def test_all_zero_throughout(label):
    data = frames(6, periodic=True)
    zero = [replace(f, **{label: 0.0 if label == "energy" else np.zeros_like(getattr(f, label))}) for f in data]
    assert found(preflight(zero, requested=ALL), f"{label}-zero").level == "error"
    assert found(preflight(zero, requested=ALL - {label}), f"{label}-zero").level == "warning"
    some = [zero[0], *data[1:]]
    assert f"{label}-zero" not in codes(preflight(some, requested=ALL))


def test_zero_forces_of_a_perfect_crystal():
    data = frames(3, periodic=True, forces=np.zeros((8, 3)))
    assert found(preflight(data), "forces-zero").level == "error"
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3, indexing="ij"), -1).reshape(-1, 3)
    perfect = [replace(f, positions=(grid + 0.1) @ f.cell) for f in data]
    assert found(preflight(perfect), "forces-zero").level == "note"


def test_overlapping_and_close_atoms():
    data = frames()
    for i, gap in ((3, 0.25), (7, 0.1)):
        moved = data[i].positions.copy()
        moved[1] = moved[0] + [0, 0, gap]
        moved[2] = moved[0] + [0, 0, -gap - 0.1]  # close too, but not the closest
        data[i] = replace(data[i], positions=moved)
    finding = found(preflight(data), "overlapping-atoms")
    assert (finding.level, finding.frame, finding.frames) == ("error", 7, (3, 7))
    assert "atoms 0 (O) and 1 (H) are 0.100 Å apart" in finding.message
    shrunk = [replace(f, positions=0.529 * f.positions) for f in frames()]
    assert found(preflight(shrunk), "close-atoms").level == "warning"


def test_overlap_across_the_boundary():
    data = frames(4, periodic=True)
    moved = data[2].positions.copy()
    moved[0] = data[2].positions[7] + data[2].cell[0] + [0.1, 0, 0]
    data[2] = replace(data[2], positions=moved)
    assert found(preflight(data), "overlapping-atoms").frame == 2


def test_net_forces():
    data = frames()
    data[5] = replace(data[5], forces=data[5].forces + [0.3, 0, 0])
    finding = found(preflight(data), "net-force")
    assert (finding.level, finding.frame, finding.frames) == ("warning", 5, (5,))
    assert "0.9 eV/Å" in finding.message
    assert "mean 0.075" in finding.message


def test_leaks_and_duplicates():
    train = frames(6, periodic=True)
    held, test = frames(3, "held.xyz", 1, periodic=True), frames(4, "test.xyz", 2, periodic=True)
    # wrapped otherwise, shifted as a whole and written with five decimals
    copy = np.round(train[4].positions + train[4].cell[1] + 0.7, 5)
    copy[2] -= train[4].cell[0]
    test[3] = replace(test[3], positions=copy, cell=train[4].cell)
    held[1] = replace(held[1], positions=train[0].positions, cell=train[0].cell)
    train.append(replace(train[2], source="train.xyz#6", energy=train[2].energy + 1.0))
    report = preflight(train, held, {"t": test})
    leaks = {f.file: f for f in report.findings if f.code == "leak"}
    assert {file: (f.frame, f.level) for file, f in leaks.items()} == {"held.xyz": (1, "warning"), "test.xyz": (3, "warning")}
    assert "train.xyz#4" in leaks["test.xyz"].message
    duplicate = found(report, "duplicate")
    assert (duplicate.frame, duplicate.level) == (6, "warning")
    assert "energies of 1 differ" in duplicate.message


def test_no_duplicates_where_atoms_moved():
    train = frames(6)
    near = [replace(f, positions=f.positions + np.eye(3)[[0, 1, 2]] * 0.01, source=f"test.xyz#{i}") for i, f in enumerate(train)]
    assert "leak" not in codes(preflight(train, tests={"t": near}))
    shifted = [replace(f, positions=f.positions + 3.0, source=f"test.xyz#{i}") for i, f in enumerate(train)]
    assert len(found(preflight(train, tests={"t": shifted}), "leak").frames) == 6
    other = [replace(f, numbers=np.array([16, 1, 1])) for f in shifted]
    assert "leak" not in codes(preflight(train + other[:1]))


def test_mixed_levels_of_theory():
    data = frames(20)
    jumped = [replace(f, energy=f.energy + 2.0, config_type="other") if i in (3, 8, 15) else f for i, f in enumerate(data)]
    finding = found(preflight(jumped), "energy-jump")
    assert (finding.level, finding.frames) == ("warning", (3, 8, 15))
    assert "other" in finding.message
    second = frames(6, "second.xyz", 5, energy=-2071.0)
    assert "energy-jump" in codes(preflight(data + second))
    assert "energy-jump" not in codes(preflight(data))
    hot = [replace(f, energy=f.energy + 0.3 * i) for i, f in enumerate(data)]
    assert "energy-jump" not in codes(preflight(hot))


def test_reference_energies_of_another_level():
    data = frames()
    fits, other = {"H": -13.6, "O": -2032.8}, {"H": -13.6, "O": -2010.0}
    assert not preflight(data, references=References(fits, "given", "")).findings
    finding = found(preflight(data, references=References(other, "isolated", "")), "reference-mismatch")
    assert finding.level == "warning"
    assert "another level of theory" in finding.message


def test_fitted_references_are_a_warning():
    finding = found(preflight(frames(), references=reference_energies(frames())), "no-isolated-atoms")
    assert finding.level == "warning"
    assert "dissociation" in finding.message


def test_cell_and_periodicity():
    boxed = frames(3, cell=20.0 * np.eye(3))
    assert found(preflight(boxed), "cell-without-periodicity").level == "warning"
    bare = frames(5)
    bare[2] = replace(bare[2], pbc=np.array([True, True, False]))
    finding = found(preflight(bare), "periodic-without-cell")
    assert (finding.level, finding.frame) == ("error", 2)
    slab = frames(3, cell=np.diag([9.0, 9.0, 0.0]), pbc=np.array([True, True, False]))
    assert not codes(preflight(slab))


def test_stress_of_molecules_and_slabs():
    """Without a label or with one: an error that names what it is."""
    flat = {"cell": np.diag([9.0, 9.0, 0.0]), "pbc": np.array([True, True, False])}
    for data, word in (
        (frames(), "molecule"),
        (frames(cell=9 * np.eye(3), stress=np.eye(3)), "molecule"),
        (frames(stress=np.eye(3), **flat), "slab"),
    ):
        finding = found(preflight(data, requested=ALL), "stress-without-volume")
        assert finding.level == "error"
        assert word in finding.message
        assert "stress-without-volume" not in codes(preflight(data))
    full = frames(6, periodic=True, pbc=np.array([True, True, False]))
    assert not preflight(full, requested=ALL).errors
    mixed = frames(6, periodic=True) + frames(2, "molecules.xyz")
    assert "stress-without-volume" in codes(preflight(mixed, requested=ALL), "error")
    one_file = frames(6, periodic=True) + frames(2)
    report = preflight(one_file, requested=ALL)
    assert not report.errors
    assert "some-stress-missing" in codes(report)


def strain_series(sign=1.0, unit=1.0):
    """A harmonic crystal E = V0 K/2 tr(ε)² with σ its derivative."""
    out = []
    for i, strain in enumerate(np.linspace(-0.04, 0.05, 7)):
        (base,) = frames(1, periodic=True, seed=1)
        trace, volume, k = 3 * strain, base.volume, 0.6
        sigma = sign * unit * k * trace * volume * np.eye(3) / (volume * (1 + strain) ** 3) * (1 + strain)
        cell, positions = base.cell * (1 + strain), base.positions * (1 + strain)
        energy = -100.0 + 0.5 * k * volume * trace**2
        out.append(replace(base, cell=cell, positions=positions, energy=energy, stress=sigma, source=f"eos.xyz#{i}"))
    return out


def test_stress_sign_and_scale_from_strained_copies():
    assert found(preflight(strain_series(), requested=ALL), "stress-verified").level == "note"
    wrong = found(preflight(strain_series(-1.0), requested=ALL), "stress-sign")
    assert wrong.level == "error"
    assert "opposite sign" in wrong.message
    assert found(preflight(strain_series(-1.0)), "stress-sign").level == "warning"
    assert found(preflight(strain_series(1.0, 160.2), requested=ALL), "stress-scale").level == "error"
    assert found(preflight(strain_series(-1.0, 160.2), requested=ALL), "stress-sign").level == "error"


def test_element_in_test_that_is_not_in_train():
    test = frames(4, "test.xyz", 1)
    test[2] = replace(test[2], numbers=np.array([16, 1, 1]))
    finding = found(preflight(frames(), tests={"t": test}), "unknown-element")
    assert (finding.level, finding.file, finding.frame) == ("error", "test.xyz", 2)
    assert finding.message.startswith("S is in the test t set")
    assert "unknown-element" in codes(preflight(frames(), test), "error")
    assert "unknown-element" not in codes(preflight(frames() + test, tests={"t": test}))


def test_nothing_to_train_on():
    atom = Frame(np.array([14]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), -1.0, source="a.xyz#0")
    for train in ([], [atom]):
        assert codes(preflight(train), "error") == {"no-frames"}


def test_first_error_and_how_many_more():
    data = frames(4, energy=float("nan"))
    data[3] = replace(data[3], pbc=np.array([True, False, False]))
    with pytest.raises(UserError, match=r"1 more error"):
        preflight(data).raise_errors()
    with pytest.raises(UserError, match="'charges' is not a label"):
        preflight(frames(), requested={"charges"})
