"""Observables in a report: what `equipot observe` wrote, in whatever folder it lies."""

import json

import numpy as np
import pytest
from ase import Atoms
from test_report_page import embedded

from equipot.analysis.observables import Settings, observe, read_trajectory, write
from equipot.analysis.report import collect, write_report
from equipot.errors import UserError


@pytest.fixture
def observed(tmp_path):
    """Radial distributions of a crystal with noise, beside those of another, in a folder within a folder."""
    rng = np.random.default_rng(0)
    files = []
    for name in ("a.traj", "b.traj"):
        files.append(tmp_path / name)
        frames = []
        for _ in range(16):
            atoms = Atoms("CsCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4.1] * 3, pbc=True).repeat(2)
            atoms.rattle(0.1, rng=rng)
            frames.append(atoms)
        from ase.io import write as write_atoms

        write_atoms(files[-1], frames)
    trajectory, reference = (read_trajectory(str(f), 1.0, 0, lambda n: None) for f in files)
    settings = Settings()
    found = observe(trajectory, settings, reference=reference, only=["rdf"], progress=lambda text: None)
    folder = tmp_path / "all" / "rdf"
    folder.parent.mkdir()
    write(folder, found, trajectory, reference, settings, lambda text: None)
    return folder


def test_the_folder_and_the_one_it_lies_in(observed):
    for path in (observed, observed.parent, observed / "observables.json"):
        page = write_report(path, observed.parent / "page.html").read_text()
        drawn = embedded(page, "figures")
        assert "<h2>Observables</h2>" in page and "Overlap with the reference" in page
        assert {"observed-0-rdf-Cs-Cl", "observed-0-rdf-Cl-Cl", "observed-0-rdf-Cs-Cs"} <= {n.replace("Cl-Cs", "Cs-Cl") for n in drawn}
        assert all(trace["x"] for figure in drawn.values() for trace in figure["data"])


def test_what_could_not_be_observed_is_said(observed):
    file = observed / "observables.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"missing": {"vdos": "the frames have no <velocities>"}}))
    assert "No vdos: the frames have no &lt;velocities&gt;" in write_report(observed).read_text()
    file.write_text("{}")
    with pytest.raises(UserError, match="not written by this version"):
        collect(observed)
