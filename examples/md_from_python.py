"""Molecular dynamics from Python: thermalise with Langevin, then measure energy conservation, and continue a stopped run.

    python examples/md_from_python.py MODEL.equipot STRUCTURE [--quick]

Writes thermal.extxyz and nve.extxyz (each with a log and a restart file beside it) into the folder --out.
"""

import argparse
from pathlib import Path

import numpy as np

from equipot.interfaces.md import resume_md, run_md
from equipot.interfaces.md_log import Sample, read_log
from equipot.interfaces.md_settings import MDSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--out", type=Path, default=Path("md"))
    parser.add_argument("--quick", action="store_true", help="a few steps only")
    options = parser.parse_args()
    steps = 40 if options.quick else 4000

    def show(sample: Sample, steps: int) -> None:
        if sample.step % (steps // 10) == 0:
            print(f"step {sample.step:6d} of {steps}  {sample.temperature_K:6.1f} K  {sample.total_eV_per_atom:.5f} eV/atom")

    heating = MDSettings(ensemble="langevin", temperature=options.temperature, steps=steps, interval=2)
    thermal = run_md(options.model, options.structure, options.out / "thermal.extxyz", heating, force=True, on_sample=show)

    # The last frame's velocities are used, because the file has some.
    free = MDSettings(ensemble="nve", temperature=options.temperature, steps=steps // 2, interval=2, dtype="float64")
    run_md(options.model, thermal.files.trajectory, options.out / "nve.extxyz", free, force=True, on_sample=show)

    # As after a stop or a kill: from the restart file, to the same trajectory; more steps make it longer.
    nve = resume_md(options.model, options.out / "nve.extxyz", {"steps": steps}, on_sample=show)
    log = read_log(nve.files.log)
    slope = np.polyfit(log["time_ps"], log["drift_meV_per_atom"], 1)[0]
    print(f"NVE over {log['time_ps'][-1]:g} ps: {log['temperature_K'].mean():.0f} K, {slope:+.4f} meV/atom/ps, "
          f"largest departure {np.abs(log['drift_meV_per_atom']).max():.4f} meV/atom")  # fmt: skip


if __name__ == "__main__":
    main()
