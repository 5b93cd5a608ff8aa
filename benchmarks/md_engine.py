"""The native engine by itself: cost and memory per atom by size, drift of the total energy, time of the import."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from md_common import Figure, Options, structure, water_model

from equipot.interfaces.md import MDFiles, run_md
from equipot.interfaces.md_log import read_log
from equipot.interfaces.md_settings import MDSettings

HERE = Path(__file__).parent
IMPORT = """
import sys, time
begin = time.perf_counter()
import equipot.ase
print(time.perf_counter() - begin, "torch" in sys.modules)
"""
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it is an error
import equipot.ase
from ase.build import molecule
atoms = molecule("H2O")
atoms.calc = equipot.ase.Calculator(sys.argv[1])
atoms.get_forces()
"""


def size(options: Options) -> list[Figure]:
    """Cost and memory per atom of liquid water, each size in a process of its own, sizes in turn; medians over rounds."""
    names = ["water-192", "water-1536"] if options.quick else ["water-192", "water-1536", "water-12288", "water-98304"]
    steps = dict(zip(names, (200, 30, 6, 2), strict=False))
    found: dict[str, list[dict]] = {name: [] for name in names}
    model = water_model(options.folder)
    for name in names:
        atoms = structure(name)
        np.savez(options.folder / f"{name}.npz", numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array)
    for _ in range(1 if options.quick else min(3, options.rounds)):
        for name in names:
            arguments = [str(model), str(options.folder / f"{name}.npz"), str(2 if options.quick else steps[name])]
            done = subprocess.run([sys.executable, str(HERE / "md_size.py"), *arguments], check=True, stdout=subprocess.PIPE, text=True)
            found[name].append(json.loads(done.stdout))
    rows = [{key: statistics.median(r[key] for r in found[name]) for key in found[name][0]} for name in names]
    costs = [row["us_per_atom"] for row in rows]
    spread = 100 * (max(costs) / min(costs) - 1)
    memory = rows[-1]["kib_per_atom"]  # of the largest: smaller ones show what the process has anyway
    text = ", ".join(f"{row['atoms']}: {row['us_per_atom']:.1f}" for row in rows)
    shares = f"the engine's own count {rows[-1]['engine_kib_per_atom']:.1f}, the rest neighbour list, search and ASE"
    return [
        Figure(
            "size",
            f"µs per atom and step with searches for neighbours; {text}",
            spread,
            f"{spread:.0f} %",
            "20 %",
            spread <= 20,
            {"rows": rows},
        ),
        Figure("size", f"peak memory of {rows[-1]['atoms']} atoms; {shares}", memory, f"{memory:.1f} KiB per atom", "32 KiB", memory <= 32),
    ]


def nve(options: Options) -> list[Figure]:
    """Drift of the total energy of 64 waters: the slope of a line through it times the length of the run; float32, native engine."""
    if options.model is None and not options.quick:
        raise SystemExit("the case nve needs --model, one trained on water: equipot train examples/water_nequip.yaml")
    out, n_steps = options.folder / "nve.xyz", 40 if options.quick else 40_000
    settings = MDSettings(ensemble="nve", steps=n_steps, timestep=0.5, temperature=300.0, dtype="float32", interval=10)
    run_md(options.model or water_model(options.folder), structure("water-192"), out, settings, engine="native", force=True)
    log = read_log(MDFiles.of(out).log)
    drift, time = log["drift_meV_per_atom"], log["time_ps"]
    length, slope = float(time[-1]), float(np.polyfit(time, drift, 1)[0])
    largest, moved = float(np.abs(drift).max()), abs(slope * length)
    speed, temperature = float(np.nanmedian(log["ns_per_day"])), float(log["temperature_K"].mean())
    return [
        Figure(
            "nve",
            f"64 waters, {length:.4g} ps at 0.5 fs, float32, mean {temperature:.0f} K, {speed:.2f} ns/day; largest distance from the first energy "
            f"{largest:.3f} meV per atom, the integrator's oscillation with it",
            moved,
            f"{moved:.4f} meV per atom",
            "0.2 meV",
            moved < 0.2,
            {
                "largest_meV": largest,
                "last_meV": float(drift[-1]),
                "slope_meV_per_ps": slope,
                "ns_per_day": speed,
                "temperature_K": temperature,
            },
        )
    ]


def imports(options: Options) -> list[Figure]:
    """Seconds that `import equipot.ase` takes in a fresh process, and that neither it nor a calculation asks for torch."""
    times = []
    for _ in range(2 if options.quick else 7):
        done = subprocess.run([sys.executable, "-c", IMPORT], check=True, stdout=subprocess.PIPE, text=True)
        seconds, torch_is_there = done.stdout.split()
        times.append(float(seconds))
        assert torch_is_there == "False"
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(water_model(options.folder))], check=True)
    median = statistics.median(times)
    return [
        Figure(
            "import",
            "import equipot.ase in a fresh process; torch is not imported",
            median,
            f"{median:.2f} s",
            "0.5 s",
            median < 0.5,
            {"times": times},
        )
    ]


CASES = {"size": size, "nve": nve, "import": imports}
