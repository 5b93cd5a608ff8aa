"""The socket client against ASE's server, and against i-PI itself where it is installed."""

import importlib.util
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.socketio import SocketIOCalculator

from equipot.errors import UserError
from equipot.interfaces.ase_calculator import Calculator
from equipot.interfaces.ipi_client import run_client, xyz_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "ipi_path_integrals.py"
needs_ipi = pytest.mark.skipif(not importlib.util.find_spec("ipi"), reason='i-PI is not installed: pip install "equipot[ipi]"')


@pytest.mark.parametrize("name", ["ethanol", "crystal"])
def test_it_is_the_calculator_through_the_socket(model_file: Path, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The positions and cells are the server's, which moves them between its questions."""
    atoms = request.getfixturevalue(name)
    expected = atoms.copy()
    expected.calc = Calculator(model_file)
    asked = []
    socket = f"equipot_test_{name}_{tmp_path.name}"
    client = threading.Thread(target=lambda: asked.append(run_client(model_file, request.getfixturevalue(name).copy(), socket)))
    with SocketIOCalculator(unixsocket=socket, timeout=60.0) as server:
        client.start()
        atoms.calc = server
        for seed in range(3):
            atoms.rattle(0.05, seed=seed)
            if atoms.pbc.all():
                atoms.set_cell(atoms.cell.array * (1 + 0.01 * seed), scale_atoms=True)
                expected.set_cell(atoms.cell.array)
            expected.positions = atoms.positions
            assert atoms.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-7)
            np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=1e-7)
            if atoms.pbc.all():
                assert abs(expected.get_stress()).max() > 1e-3
                np.testing.assert_allclose(atoms.get_stress(), expected.get_stress(), atol=1e-8)
    client.join(timeout=60)
    assert asked == [3]


def test_without_a_server_it_says_so(model_file: Path, ethanol: Atoms) -> None:
    with pytest.raises(UserError, match="no i-PI server at the UNIX socket 'equipot_nobody'"):
        run_client(model_file, ethanol, "equipot_nobody", wait=0.0)
    with pytest.raises(UserError, match="no i-PI server at localhost:1 "):
        run_client(model_file, ethanol, port=1, wait=0.0)


@needs_ipi
def test_the_example_runs(model_file: Path, crystal: Atoms, tmp_path: Path) -> None:
    """i-PI itself: path integrals of a triclinic crystal; its first energy and its pressure are the calculator's."""
    crystal.write(tmp_path / "structure.xyz")
    command = [sys.executable, str(EXAMPLE), str(model_file), "structure.xyz", "--quick", "--beads", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr + (tmp_path / "ipi" / "i-pi.log").read_text()
    ours, ase = map(float, re.search(r"i-PI (\S+) eV, ASE (\S+) eV", done.stdout).groups())
    assert abs(ours - ase) < 2e-6
    assert "12 structures computed" in done.stdout
    table = np.loadtxt(tmp_path / "ipi" / "simulation.out")
    assert np.ptp(table[:, 2]) < 0.1 * np.ptp(table[:, 5])  # conserved, potential
    crystal.calc = Calculator(model_file)
    pressure = -np.trace(crystal.get_stress(voigt=False)) / 3.0 * 160217.6634
    assert abs(pressure) > 1e4
    assert table[0, 6] == pytest.approx(pressure, rel=0.05)  # the rest is of the centroids' motion


def test_the_file_i_pi_reads_has_the_lattice(crystal: Atoms, ethanol: Atoms) -> None:
    lines = xyz_of(crystal).splitlines()
    sizes = np.array(lines[1].split()[2:8], float)
    positions = np.array([line.split()[1:] for line in lines[2:]], float)
    turned = Atoms(crystal.numbers, positions, cell=sizes, pbc=True)
    np.testing.assert_allclose(turned.get_all_distances(mic=True), crystal.get_all_distances(mic=True), atol=1e-9)
    assert "1000.0" in xyz_of(ethanol).splitlines()[1]
