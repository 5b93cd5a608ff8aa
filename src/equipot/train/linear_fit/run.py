"""The run of a least-squares fit: rows, the regularisation that is best on the validation set, and the same files as any run."""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from equipot.data.dataset import DataSet
from equipot.errors import UserError
from equipot.math.coupled import CoupledBasis, factor_degree
from equipot.model import Potential
from equipot.model.file import save_model
from equipot.model.linear import LinearModel
from equipot.train.config import LeastSquaresConfig, RunConfig
from equipot.train.linear_fit.rows import Chunk, chunks, measures, signal
from equipot.train.linear_fit.solve import MAX_ARD_COLUMNS, NormalEquations, Triangle, accumulator, ard
from equipot.train.loss import Loss, Weights
from equipot.train.metrics import MetricsFile
from equipot.train.progress import clock
from equipot.train.setup import Prepared

log = logging.getLogger("equipot.train")
_KEEP_BYTES = 2**30
_SAMPLE = 20  # structures on which columns are chosen
_START, _STRONGEST, _WEAKEST = 1e-8, 1e2, 1e-14


def fit(config: RunConfig, prepared: Prepared, potential: Potential, folder: Path) -> dict[str, float]:
    """Fit the potential, write metrics.csv and best.equipot, and return the last row of metrics.

    Minimises L(c) + λ Σ_p (γ_p c_p)², L the loss over the training set; γ_p is `smoothness_prior`, λ = ρ · mean_p(X_p² / γ_p²) with ρ the
    dimensionless `regularisation`. Without one, ρ is searched for in decades and refined by √10, as the validation set says. With `columns` n, the
    sum runs over the n functions with the largest Σ w X_p² / γ_p² on a sample of the training set.
    Raises UserError for what the solver cannot do.
    """
    settings, start = config.train.least_squares, time.monotonic()
    model = LinearModel(potential)
    weights = Loss(config.loss).final_weights()
    prior = smoothness_prior(model.basis, potential, settings.smoothness, model.n_blocks)
    columns = _chosen(settings, model, prepared.train, weights, prior)
    problem = accumulator(len(columns))
    log.info("least squares (%s): %d of %d columns; the rows are made by forward mode", settings.solver, len(columns), model.n_columns)
    for chunk in chunks(model, prepared.train, weights, "training rows", columns):
        problem.add(*chunk.weighted())
    if problem.rows < 1:
        raise UserError("no structure to train on has a label with a weight above 0: look at data.keys and loss")
    log.info("%d rows after %s", problem.rows, clock(time.monotonic() - start))
    held = _Validation(model, prepared.validation, weights, columns) if prepared.validation else None
    metrics = MetricsFile(folder / "metrics.csv", extra=("regularisation",))
    path = _Path(problem, prior[columns], held, metrics, config.train.measure, settings.tolerance, start)
    if settings.solver == "ard":
        path.take(math.nan, ard(problem))
        log.info("%d columns are not zero", np.count_nonzero(path.chosen[1]))
    elif settings.regularisation is not None:
        for rho in settings.candidates():
            path.try_ridge(rho)
    else:
        path.search()
    row, c = path.chosen
    weight = np.zeros(model.n_columns)
    weight[columns] = c
    model.set_weights(weight)
    _save(config, prepared, potential, folder, row, problem, start)
    log.info("fitted in %s: %s", clock(time.monotonic() - start), _describe(row))
    return row


def smoothness_prior(basis: CoupledBasis, potential: Potential, power: float, n_blocks: int) -> np.ndarray:
    """γ_p = Σ_ξ (n_ξ + w l_ξ)^q over the factors of function p: radial number n = 1, 2, …, degree l, w the angular weight of the basis, q the power.

    Returns one per column. Source: the algebraic prior of Witt et al., J. Chem. Phys. 159, 164101 (2023), written with the degree of the truncation.
    """
    channel, degree = basis.labels[:, :, 0], basis.labels[:, :, 1]
    n = channel % potential.spec.radial_basis.n + 1
    size = factor_degree(n, degree, potential.spec.layers[0].product.angular_weight)
    return np.tile(np.where(channel >= 0, size**power, 0.0).sum(1), n_blocks)


def _chosen(settings: LeastSquaresConfig, model: LinearModel, dataset: DataSet, weights: Weights, prior: np.ndarray) -> np.ndarray:
    """The columns that are solved for, ascending."""
    wanted = min(settings.columns or model.n_columns, model.n_columns)
    if settings.solver == "ard" and wanted > MAX_ARD_COLUMNS:
        raise UserError(
            f"train.least_squares.solver ard goes up to {MAX_ARD_COLUMNS:,} columns, and here are {wanted:,}: "
            "lower model.degrees, set least_squares.columns, or take solver ridge"
        )
    if wanted == model.n_columns:
        return np.arange(wanted)
    found = signal(model, dataset, weights, _SAMPLE) / prior**2
    return np.sort(np.argsort(-found, kind="stable")[:wanted])


class _Validation:
    """Errors on the validation set; its rows are kept where they are few, else made anew each time."""

    def __init__(self, model: LinearModel, dataset: DataSet, weights: Weights, columns: np.ndarray):
        self.model, self.dataset, self.weights, self.columns = model, dataset, weights, columns
        n_rows = sum(1 + 3 * g.n_atoms + 6 for g in dataset.graphs)
        self.kept = list(self._chunks()) if 8 * n_rows * len(columns) <= _KEEP_BYTES else None

    def _chunks(self):
        return chunks(self.model, self.dataset, self.weights, "validation rows", self.columns)

    def __call__(self, c: np.ndarray) -> dict[str, float]:
        slim = []
        for chunk in self.kept if self.kept is not None else self._chunks():
            nothing = Chunk(chunk.x[:, :0], chunk.y, chunk.weight, chunk.kind, chunk.atoms, chunk.times)
            slim.append((nothing, chunk.x @ c))
        return measures(slim)


class _Path:
    """The solutions tried, the one to take, and their rows in metrics.csv."""

    def __init__(
        self,
        problem: Triangle | NormalEquations,
        prior: np.ndarray,
        held: Callable | None,
        metrics: MetricsFile,
        measure: str,
        tolerance: float,
        start: float,
    ):
        self.problem, self.prior, self.held, self.metrics = problem, prior, held, metrics
        self.measure, self.tolerance, self.start = measure, tolerance, start
        self.unit = float((problem.diagonal / prior**2).mean())
        self.best = math.inf
        self.tried: list[tuple[float, dict[str, float], np.ndarray]] = []

    @property
    def chosen(self) -> tuple[dict[str, float], np.ndarray]:
        """Row and solution of the strongest regularisation whose validation error is within the tolerance of the best.

        A few structures cannot tell these apart, and what they do not hold is safer with the stronger one.
        """
        good = [(row, c) for value, row, c in self.tried if value <= self.best * (1.0 + self.tolerance * np.sign(self.best))]
        return max(good, key=lambda found: found[0]["regularisation"])

    def search(self) -> None:
        """Decades up and down from the start as long as the validation errors fall, then half a decade to either side of the best."""
        self.try_ridge(_START)
        if not self._walk(0.1):
            self._walk(10.0)
        centre = min(self.tried, key=lambda found: found[0])[1]["regularisation"]
        for rho in (centre * math.sqrt(10.0), centre / math.sqrt(10.0)):
            self._better(rho)

    def _walk(self, factor: float) -> int:
        """Steps by a factor from the start as long as each is better; how many were."""
        steps, rho = 0, _START * factor
        while _WEAKEST <= rho <= _STRONGEST and self._better(rho):
            steps, rho = steps + 1, rho * factor
        return steps

    def _better(self, rho: float) -> bool:
        """Whether it is the best so far; what is below double precision is not."""
        try:
            return self.try_ridge(rho)
        except UserError:
            return False

    def try_ridge(self, rho: float) -> bool:
        """Solve for one regularisation; whether it is the best so far."""
        return self.take(rho, self.problem.solve(rho * self.unit * self.prior**2))

    def take(self, rho: float, c: np.ndarray) -> bool:
        """Measure a solution and write its row; whether it is the best so far. Without validation data there is one."""
        n = len(self.tried)
        row: dict[str, float] = {"epoch": n, "updates": n + 1, "elapsed_s": time.monotonic() - self.start}
        row |= {"regularisation": rho, "step_ms": math.nan, "learning_rate": math.nan, "train_loss": self.problem.loss(c)}
        row |= {f"valid_{name}": value for name, value in (self.held(c) if self.held else {}).items()}
        self.metrics.add(row)
        log.info("%s", _describe(row))
        value = row.get(f"valid_{self.measure}", 0.0)
        self.tried.append((value, row, c))
        better = value < self.best
        self.best = min(value, self.best)
        return better


def _describe(row: dict[str, float]) -> str:
    parts = [f"regularisation {row['regularisation']:.1e}", f"loss {row['train_loss']:.4g}"]
    for name, short, unit in (("energy_per_atom", "E", "meV/atom"), ("forces", "F", "meV/Å"), ("stress", "S", "meV/Å³")):
        if (key := f"valid_{name}_rmse") in row:
            parts.append(f"valid {short} {1000.0 * row[key]:.4g} {unit}")
    return " · ".join([*parts, clock(row["elapsed_s"])]) + (" (RMSE)" if len(parts) > 2 else "")


def _save(
    config: RunConfig,
    prepared: Prepared,
    potential: Potential,
    folder: Path,
    row: dict[str, float],
    problem: Triangle | NormalEquations,
    start: float,
) -> None:
    errors = {k: v for k, v in row.items() if k.startswith(("train_", "valid_"))}
    found: dict[str, Any] = {
        "solver": config.train.least_squares.solver,
        "regularisation": None if math.isnan(row["regularisation"]) else row["regularisation"],
        "rows": problem.rows,
        "columns": problem.n,
    }
    facts = {
        "epoch": int(row["epoch"]),
        "updates": int(row["updates"]),
        "elapsed_s": round(time.monotonic() - start, 1),
        "least_squares": found,
    }
    trained = datetime.now(UTC).isoformat(timespec="seconds")
    save_model(potential, folder / "best.equipot", {**prepared.provenance(config), **facts, "metrics": errors, "trained": trained})
