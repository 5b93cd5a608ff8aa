"""The tests of the observables can fail: each defect, put into one function, is seen by the test named for it."""

import inspect
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import pytest
import test_block_errors as block_errors
import test_crystals as crystals
import test_dynamics as dynamics
import test_structure as structure
from ase.build import bulk
from ase.calculators.emt import EMT

from equipot.analysis.observables import angles, blocks, bonds, elastic, msd, overlap, rdf, traces, unwrap, vdos
from equipot.analysis.observables.crystal import prepare
from equipot.errors import UserError


def copper_agrees() -> None:
    crystals.test_copper_agrees_with_itself_and_ase()


def copper_shears_right() -> None:
    found = elastic.elastic_constants(prepare(bulk("Cu", cubic=True), EMT()), crystals.SETTINGS)
    assert crystals.value(found, "C44") == pytest.approx(89.9, abs=0.5)


class Defect(NamedTuple):
    """In the source of `function`, `old` becomes `new`; then `killer` must fail."""

    what: str
    function: Callable
    old: str
    new: str
    killer: Callable[[], None]


IN_RDF = (
    ("shells of 4π r² dr three times", "np.pi / 3.0", "np.pi", structure.test_integral_of_rdf_is_the_coordination_number),
    ("the first frame's volume for all", "volumes[frame]", "volumes[0]", structure.test_the_cell_of_each_frame_counts),
)
IN_UNWRAP = (
    ("paths cut at boundaries", "steps -= crossed @ cells[1:]", "steps -= 0", dynamics.test_diffusion_by_element),
    ("paths far out breathe", "positions - images @ cells", "positions", dynamics.test_a_breathing_cell_moves_nobody),
    ("drift kept", "positions - centre[:, None]", "positions", dynamics.test_drift_is_taken_off),
)
FREQUENCIES, HALVED = "np.fft.rfftfreq(size, interval)", "np.fft.rfftfreq(2 * size, interval)[: size // 2 + 1]"
IN_VDOS = (
    ("no share of elements", "share * density", "density", dynamics.test_oscillators_show_at_their_frequencies),
    ("half the frequency", FREQUENCIES, HALVED, dynamics.test_oscillators_show_at_their_frequencies),
)
EXACT = "np.sqrt(self.n_blocks / (self.n_blocks - 1))"
DEFECTS = (
    *(Defect(what, rdf.rdf, *rest) for what, *rest in IN_RDF),
    *(Defect(what, unwrap.unwrapped, *rest) for what, *rest in IN_UNWRAP),
    *(Defect(what, vdos.vdos, *rest) for what, *rest in IN_VDOS),
    Defect(
        "mixed angles one way",
        angles.angles,
        "counts[:, b, c, a]",
        "0 * counts[:, b, c, a]",
        structure.test_mixed_angles_are_counted_whichever_way_round,
    ),
    Defect("angle of the wrong sign", angles._histogram, "unit[first] * unit[second]", "-unit[first] * unit[second]", structure.test_fcc),
    Defect("bonds end before the peak", bonds._place, "x[last]) / 2", "x[first]) / 2 - 0.8", structure.test_fcc),
    Defect("three dimensions always", msd.msd, "(2 * n_directions)", "6", dynamics.test_slab_diffuses_along_itself),
    Defect("3 N always", traces.degrees_of_freedom, "n - (3 if", "n - (0 if", dynamics.test_temperature_and_pressure_are_ases),
    Defect("no ideal gas", traces.traces, "2.0 * kinetic / (3.0", "0.0 * kinetic / (3.0", dynamics.test_temperature_and_pressure_are_ases),
    Defect(
        "spread as the error", blocks.Blocked.error.fget, "self.weights**2", "self.weights", block_errors.test_errors_are_right_over_repeats
    ),
    Defect("bootstrap too narrow", blocks.Blocked.resampled, EXACT, "1.0", block_errors.test_bootstrap_spreads_as_the_error),
    Defect(
        "one curve's area", overlap._overlap, "+ np.abs(g)).sum(", ").sum(", block_errors.test_overlap_of_two_gaussians_is_the_known_one
    ),
    Defect(
        "noise of one side", overlap.overlap_of, "both + shift_g", "both", block_errors.test_two_samples_of_one_density_stay_within_noise
    ),
    Defect("shear doubled", elastic._stress, "gamma / 2", "gamma", copper_shears_right),
    Defect("one-sided strain", elastic._column, "/ (2 * strain)", "/ strain", copper_agrees),
)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.what)
def test_defect_is_seen(defect: Defect, monkeypatch: pytest.MonkeyPatch) -> None:
    source = textwrap.dedent(inspect.getsource(defect.function)).removeprefix("@property\n")
    assert source.count(defect.old) >= 1, "the defect's place is gone: mend the table"
    scope: dict = {}
    exec(compile(source.replace(defect.old, defect.new), "mutated", "exec"), defect.function.__globals__ | {}, scope)
    monkeypatch.setattr(defect.function, "__code__", scope[defect.function.__name__].__code__)
    with pytest.raises((AssertionError, IndexError, UserError)):
        defect.killer()
