"""examples/lammps_md.py, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "lammps_md.py"


def test_the_example_runs(lammps, plugin_cache, model_file, crystal, tmp_path):
    crystal.repeat((2, 1, 1)).write(tmp_path / "crystal.xyz")
    environment = os.environ | {"EQUIPOT_CACHE": str(plugin_cache), "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1"}
    command = [sys.executable, str(EXAMPLE), str(model_file), "crystal.xyz", "--quick", "--lammps", str(lammps.executable)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, ase = map(float, re.search(r"LAMMPS (\S+) eV, ASE (\S+) eV", done.stdout).groups())
    assert abs(ours - ase) < 2e-6
    assert (tmp_path / "lammps" / "trajectory.dump").read_text().count("ITEM: TIMESTEP") == 2
