"""The process that labels: reads structures, a JSON line each, and answers with a line each. It needs neither torch nor a model.

`python -m equipot.learn.label_worker ORDER`, with ORDER the JSON of calculator, arguments and paths to look for modules in.
"""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.data import ground_state_magnetic_moments

from equipot.errors import UserError
from equipot.learn.calculators import make_calculator


def main() -> int:
    """Answers go to what was standard output; what a calculator prints goes to standard error, which is the worker's log."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    order = json.loads(sys.argv[1])
    sys.path[:0] = order["paths"]
    try:
        calculator = make_calculator(order["calculator"], order["arguments"])
    except UserError as error:
        say({"refused": str(error)})
        return 2
    say({"ready": True})
    for answer in answered(sys.stdin, calculator, lambda: make_calculator(order["calculator"], order["arguments"])):
        say(answer)
    return 0


def answered(lines: Iterable[str], calculator: BaseCalculator, again: Any) -> Iterable[dict[str, Any]]:
    """The labels of each structure, or {"failed": reason}; after a failure the calculator is made again, which may fail for a structure too."""
    usable = True
    for line in lines:
        try:
            calculator = calculator if usable else again()
            usable = True
            yield label(json.loads(line), calculator)
        except Exception as error:  # recorded; the other structures go on
            yield {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300] or 'no message'}"}
            usable = False


def label(structure: dict[str, Any], calculator: BaseCalculator) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å) and, where the calculator has it and the cell is full, stress (eV/Å³, Voigt). Raises whatever the calculator does."""
    atoms = Atoms(**structure)
    if len(atoms) == 1 and not atoms.pbc.any():
        atoms.set_initial_magnetic_moments([ground_state_magnetic_moments[atoms.numbers[0]]])
    atoms.calc = calculator
    found = {"energy": float(atoms.get_potential_energy()), "forces": np.asarray(atoms.get_forces(), dtype=float).tolist()}
    if atoms.pbc.all() and "stress" in getattr(calculator, "implemented_properties", ()):
        found["stress"] = np.asarray(atoms.get_stress(), dtype=float).tolist()
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise ValueError(f"the {name} is not finite")
    return found


if __name__ == "__main__":
    sys.exit(main())
