"""The laws hold for sound models of every preset, and each is seen to be broken where it is."""

import broken_models as broken
import numpy as np
import pytest
import torch

from equipot.analysis.checks import CHECKS, Context, exported, passed, run_checks
from equipot.data.frame import Frame
from equipot.engine.library import library
from equipot.engine.native import NativeModel
from equipot.errors import UserError
from equipot.model import Potential, predict
from equipot.presets import PRESETS

LAWS = [name for name, check in CHECKS.items() if check.kind == "law"]


def failed(potential, only=None, **context) -> set[str]:
    return {r.name for r in run_checks(potential, only=only, **context) if not r.passed}


@pytest.mark.parametrize("preset", PRESETS)
def test_sound_models_obey_every_law(preset):
    assert failed(broken.small_potential(preset, e0=-40.0, scale=3.0), LAWS) == set()


def test_float32_models_are_examined_in_float64():
    assert failed(broken.small_potential(dtype=torch.float32), LAWS) == set()


@pytest.mark.parametrize("law, kind", [
    ("translation", broken.KnowsWhereItIs),
    ("forces", broken.KnowsWhereItIs),
    ("wrapping", broken.KnowsWhereItIs),
    ("rotation", broken.KnowsDirections),
    ("reflection", broken.Handed),
    ("permutation", broken.CountsFirst),
    ("cutoff", broken.Edges),
    ("cutoff", broken.JumpingForce),
    ("cutoff", broken.JumpingSlope),
    ("contact", broken.UndefinedAtContact),
    ("continuity", broken.UndefinedAtContact),
    ("continuity", broken.Steps),
    ("continuity", broken.Kinks),
    ("continuity", broken.Edges),
    ("isolated atom", broken.AloneIsNotZero),
    ("extensivity", broken.CountsAtoms),
    ("supercell", broken.CountsAtoms),
    ("precision", broken.Coarse),
    ("native engine", broken.KnowsDirections),
])  # fmt: skip
def test_a_broken_model_breaks_its_law(law, kind):
    assert failed(broken.small_potential(kind=kind), [law]) == {law}


@pytest.mark.parametrize("pair_cutoff", [
    ((2.4, 2.6, 2.8), (2.6, 3.0, 3.1), (2.8, 3.1, 3.3)),
    ((2.4, 2.6, 2.8), (2.9, 3.0, 3.1), (3.2, 2.7, 3.3)),
], ids=["symmetric", "by direction"])  # fmt: skip
def test_the_cutoff_of_a_pair_of_elements_is_where_it_is_crossed(pair_cutoff):
    for kind, expected in ((Potential, set()), (broken.IgnoresElements, {"cutoff"}), (broken.EdgesByPair, {"cutoff"})):
        assert failed(broken.small_potential(kind=kind, pair_cutoff=pair_cutoff), ["cutoff"]) == expected
    assert failed(broken.small_potential(kind=broken.IgnoresElements), ["cutoff"]) == set()


@pytest.mark.parametrize("law, part", [
    ("forces", {"predict": broken.forces_scaled(-1.0)}),
    ("forces", {"predict": broken.forces_scaled(1.001)}),
    ("stress", {"predict": broken.stress_of_opposite_sign}),
    ("cutoff", {"neighbours": broken.short_list}),
    ("wrapping", {"neighbours": broken.near_images_only}),
    ("permutation", {"neighbours": broken.five_neighbours}),
    ("rotation", {"predict": broken.nan_energy}),
    ("isolated atom", {"predict": broken.nan_energy}),
])  # fmt: skip
def test_what_surrounds_the_model_is_examined_with_it(law, part):
    assert failed(broken.small_potential(), [law], **part) == {law}


def test_the_other_laws_do_not_blame_the_wrong_thing():
    assert failed(broken.small_potential(kind=broken.Handed), LAWS) - {"native engine"} == {"reflection"}  # its export is the sound model
    assert failed(broken.small_potential(), LAWS, predict=broken.stress_of_opposite_sign) - {"native engine"} == {"stress"}


def test_an_engine_of_small_errors_is_seen(monkeypatch):
    if library() is None:
        pytest.skip("the native engine was not built")
    assert not failed(broken.small_potential("mace"), ["native engine"])

    class Careless(NativeModel):
        def compute(self, *args, **kwargs):
            found = super().compute(*args, **kwargs)
            return found._replace(forces=found.forces * (1 + 3e-5))

    monkeypatch.setattr(exported, "NativeModel", Careless)
    assert failed(broken.small_potential("mace"), ["native engine"]) == {"native engine"}
    monkeypatch.setattr(exported, "library", lambda: None)
    (result,) = run_checks(broken.small_potential(), only=["native engine"])
    assert result.skipped and result.passed and "not built" in result.message


def test_a_free_model_states_its_offset():
    (result,) = run_checks(broken.small_potential("nequip", shift="mean"), only=["isolated atom"])
    assert result.passed
    assert result.details["offset"] == pytest.approx({"H": 0.1, "C": 0.1, "O": 0.1}, abs=1e-12)
    assert "H +0.1000" in result.message


def test_a_declared_class_is_what_is_tested():
    """A model that only claims C1 may have a slope that jumps, one that says it jumps is not blamed at all."""
    context = Context(broken.small_potential(kind=broken.JumpingSlope))
    assert not CHECKS["cutoff"](context).passed
    from equipot.analysis.checks import locality

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locality, "smoothness", lambda spec: "C1")
        assert CHECKS["cutoff"](context).passed
        patch.setattr(locality, "smoothness", lambda spec: "jump")
        result = CHECKS["cutoff"](Context(broken.small_potential(kind=broken.Edges)))
        assert result.passed and "jump" in result.message
        from equipot.analysis.checks import approach

        edges = Context(broken.small_potential(kind=broken.Edges))
        assert not CHECKS["continuity"](edges).passed
        patch.setattr(approach, "smoothness", lambda spec: "jump")
        assert CHECKS["continuity"](edges).passed
        assert not CHECKS["continuity"](Context(broken.small_potential(kind=broken.Steps))).passed


@pytest.mark.parametrize("kind, factor", [(broken.Stiff, 1.0), (broken.Stiff, 1.0001)])
def test_a_steep_energy_is_not_a_wrong_derivative(kind, factor):
    """Where the energy is steep a long step is wrong and the derivative is not; a derivative that is wrong by little still shows."""
    laws = ["forces", "stress"]

    def scaled(*args, **kwargs):
        found = predict(*args, **kwargs)
        return found._replace(forces=factor * found.forces, stress=None if found.stress is None else factor * found.stress)

    assert failed(broken.small_potential(kind=kind), laws, predict=scaled) == (set() if factor == 1.0 else set(laws))


def test_the_users_structures_are_used_and_elements_checked():
    potential = broken.small_potential()
    frames = [
        Frame(
            np.array([8, 1, 1]),
            np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.2, 0.94, 0]]),
            np.zeros((3, 3)),
            np.zeros(3, bool),
            source="w.xyz#0",
        )
    ]
    (result,) = run_checks(potential, frames, only=["rotation"])
    assert result.passed
    (seen,) = run_checks(potential, frames, only=["contrast"])
    assert "w.xyz" in seen.message
    iron = [Frame(np.array([26, 1]), np.array([[0.0, 0, 0], [1.6, 0, 0]]), np.zeros((3, 3)), np.zeros(3, bool), source="fe.xyz#4")]
    with pytest.raises(UserError, match="fe.xyz#4.*Fe"):
        run_checks(potential, iron)


def test_unknown_check():
    with pytest.raises(UserError, match="no check is named 'gravity'; there are: rotation"):
        run_checks(broken.small_potential(), only=["gravity"])


def test_results_are_plain_data_and_repeatable():
    first, second = (run_checks(broken.small_potential(), only=["rotation", "forces"], seed=3) for _ in range(2))
    assert [r.value for r in first] == [r.value for r in second]
    assert first[0].to_dict()["passed"] is True
    assert passed(first)
    (bad,) = run_checks(broken.small_potential(), only=["rotation"], predict=broken.nan_energy)
    assert bad.to_dict()["value"] is None and not passed([bad])
