"""Rows of a study with known exponents and known differences, as results.parquet holds them."""

from itertools import product
from pathlib import Path

import numpy as np

from equipot.study.measured import Measured, Row

SIZES, SEEDS = (25, 50, 100, 200), (0, 1, 2, 3)
EXPONENTS = {"l0": 0.3, "l1": 0.7, "l2": 0.7}
SETS = {"hot": ("out-of-domain", 4.0), "cold": ("in-domain", 1.0)}  # out of domain first, so that sorting can be seen


def rows(seeds=SEEDS, sizes=SIZES, noise: float = 0.01) -> list[Row]:
    """l0 learns slowly; l1 and l2 are alike. One run has failed, and so has one probe."""
    rng = np.random.default_rng(0)
    found = []
    for (variant, b), size, seed in product(EXPONENTS.items(), sizes, seeds):
        head = {"run": f"{variant}-n{size}-s{seed}", "variant": variant, "size": size, "seed": seed}
        if (variant, size, seed) == ("l2", sizes[-1], seeds[-1]):
            found.append(Row(**head, status="failed", reason="UserError: the loss is not a number"))
            continue
        for (where, (domain, factor)), (quantity, unit, scale) in product(
            SETS.items(), (("energy_per_atom", "eV", 0.01), ("forces", "eV/Å", 0.2))
        ):
            error = factor * scale * (size / 25) ** -b * np.exp(rng.normal(0, noise))
            for statistic, more in (("mae", 1.0), ("rmse", 1.4)):
                found.append(Row(**head, set=where, domain=domain, measure=f"{quantity}_{statistic}", value=more * error, unit=unit))
        cost = {"parameters": 1000 * (1 + int(variant[1])), "updates": 500, "train_seconds": 10.0 * (1 + int(variant[1])), "converged": 1.0}
        cost["inference_us_per_atom"] = 3.0 * (1 + int(variant[1])) + rng.normal(0, 0.01)
        found += [Row(**head, set="cost", measure=m, value=float(v), unit={"train_seconds": "s"}.get(m, "")) for m, v in cost.items()]
        found += [
            Row(**head, set="probe:dimers", measure=m, value=v, unit=u) for m, v, u in (("roughness", 0.1, ""), ("limit_error", 0.0, "eV"))
        ]
    found.append(Row("l0-n25-s0", "l0", 25, 0, "probe:dimers", status="failed", reason="no such element"))
    return found


def measured(**options) -> Measured:
    return Measured(rows(**options))


def write_curves(out: Path, found: list[Row]) -> None:
    """probe-dimers.csv of every run that has not failed."""
    r = np.linspace(0.7, 4.0, 12)
    for run in {row.run for row in found if row.set.startswith("probe:")}:
        folder = out / "runs" / run / "probes" / "dimers"
        folder.mkdir(parents=True)
        lines = [f'{x:.4f},{2 * (1 - np.exp(1 - x)) ** 2:.6f},,-1.0,,H-O,"distance, Å"' for x in r]
        (folder / "probe-dimers.csv").write_text(
            "\n".join(["coordinate,prediction,reference,zero,forces_rmse,curve,axis", *lines]), encoding="utf-8"
        )
