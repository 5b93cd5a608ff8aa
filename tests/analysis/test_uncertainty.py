"""Uncertainty against error: numbers that are known, and figures that can be drawn."""

import json

import numpy as np
import pytest

from equipot.analysis import uncertainty
from equipot.data.frame import Frame
from equipot.errors import UserError


def made_up(n: int, seed: int, stated: float = 1.0, size: float = 1.0, informative: bool = True):
    """Frames and predictions whose errors are Gaussian with deviations that differ from atom to atom; `stated` times those are claimed."""
    rng = np.random.default_rng(seed)
    frames, predictions = [], []
    for _ in range(n):
        sigma = size * rng.uniform(0.02, 0.3, 4)
        forces, error = rng.normal(size=(4, 3)), rng.normal(size=(4, 3)) * sigma[:, None]
        energy, spread = rng.normal(), size * rng.uniform(0.01, 0.2)
        frames.append(Frame(np.array([1, 1, 6, 6]), rng.normal(size=(4, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), energy, forces))
        claimed = sigma if informative else np.full(4, 0.16)
        predictions.append(
            {
                "energy": energy + spread * rng.normal(),
                "forces": forces + error,
                "energy_std": stated * spread,
                "forces_std": stated * np.sqrt(3.0) * claimed,
            }
        )
    return frames, predictions


def test_deviations_are_paired_with_errors():
    frames, predictions = made_up(5, 0)
    errors, sigmas = uncertainty.deviations(frames, predictions, "energy")
    assert errors[2] == pytest.approx(1000 * (predictions[2]["energy"] - frames[2].energy) / 4)
    assert sigmas[2] == pytest.approx(250 * predictions[2]["energy_std"])
    errors, sigmas = uncertainty.deviations(frames, predictions, "forces")
    assert errors.shape == sigmas.shape == (60,)
    assert errors[13] == pytest.approx(1000 * (predictions[1]["forces"] - frames[1].forces)[0, 1])
    assert sigmas[13] == pytest.approx(1000 * predictions[1]["forces_std"][0] / np.sqrt(3))


@pytest.mark.parametrize(("stated", "verdict"), [(1.0, "right size"), (0.3, "too sure"), (3.0, "too unsure")])
def test_calibration_tells_the_size(stated, verdict):
    found = uncertainty.assess({"test": made_up(400, 1, stated)})
    for quantity in ("energy", "forces"):
        measures = found[quantity]["sets"]["test"]
        assert measures["ratio"] == pytest.approx(1 / stated, rel=0.1)
        assert (measures["miscalibration"] < 0.03) == (stated == 1.0)
        middle = np.interp(0.6, measures["expected"], measures["observed"])
        assert np.sign(round(middle - 0.6, 1)) == np.sign(stated - 1.0)
    assert all(verdict in line for line in uncertainty.words(found))


def test_a_deviation_that_knows_nothing_has_no_rank_correlation():
    knows, knows_not = (uncertainty.assess({"t": made_up(300, 2, informative=i)})["forces"]["sets"]["t"] for i in (True, False))
    assert knows["spearman"] > 0.4
    assert abs(knows_not["spearman"]) < 0.15
    assert np.corrcoef(np.log(knows["sigma"]), np.log(knows["rmse"]))[0, 1] > 0.98
    assert sum(knows["n"]) == 300 * 12


def test_auroc():
    known, foreign = np.array([1.0, 2.0, 3.0]), np.array([2.5, 4.0])
    assert uncertainty.auroc(known, foreign) == pytest.approx(5 / 6)
    assert uncertainty.auroc(foreign, known) == pytest.approx(1 / 6)
    assert uncertainty.auroc(known, known) == 0.5
    assert uncertainty.auroc(np.zeros(3), np.zeros(4)) == 0.5
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=300), rng.normal(0.8, 1.0, 200)
    curve = uncertainty.alarms(a, b)
    assert np.trapezoid(curve["true"], curve["false"]) == pytest.approx(uncertainty.auroc(a, b), abs=5e-3)
    assert (curve["false"][0], curve["true"][-1]) == (0.0, 1.0)
    with pytest.raises(UserError, match="some of each"):
        uncertainty.auroc(known, np.array([]))


def test_foreign_structures_are_told_apart():
    found = uncertainty.assess({"cold": made_up(100, 3), "hot": made_up(100, 4, size=4.0), "same": made_up(100, 5)})
    for quantity in ("energy", "forces"):
        detection = found[quantity]["detection"]
        assert detection["hot"]["auroc"] > 0.85
        assert 0.4 < detection["same"]["auroc"] < 0.6
        assert detection["hot"]["known"] == "cold"


def test_no_deviations_no_figures():
    frames, predictions = made_up(4, 0)
    plain = [{k: v for k, v in p.items() if not k.endswith("_std")} for p in predictions]
    assert uncertainty.assess({"a": (frames, plain)}) == {}
    assert uncertainty.figures({"a": (frames, plain)}) == []
    # a last layer speaks of energies only
    energies = [{k: v for k, v in p.items() if k != "forces_std"} for p in predictions]
    assert list(uncertainty.assess({"a": (frames, energies)})) == ["energy"]
    # and structures without labels can still be told apart
    unlabelled = [Frame(f.numbers, f.positions, f.cell, f.pbc) for f in frames]
    found = uncertainty.assess({"a": (frames, predictions), "b": (unlabelled, predictions)})
    assert list(found["forces"]["sets"]) == ["a"]
    assert found["forces"]["detection"]["b"]["auroc"] == 0.5


def test_no_deviation_and_no_error_is_calibrated():
    measures = uncertainty.calibration(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    assert measures["observed"][-2] == 0.5
    assert measures["ratio"] == np.inf


def test_figures_are_plotly_data():
    from plotly.graph_objects import Figure

    sets = {"cold": made_up(60, 3), "hot": made_up(60, 4, size=4.0)}
    figures = uncertainty.figures(sets)
    assert len(figures) == 6
    assert len({f["name"] for f in figures}) == 6
    for figure in figures:
        Figure(figure["data"], figure["layout"])  # raises where plotly would not take it
        assert figure["title"]
        assert figure["caption"]
        json.dumps(figure, allow_nan=False)
        assert len(figure["data"]) >= 2
