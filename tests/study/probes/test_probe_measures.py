"""Measures of one curve on curves of which the answer is known."""

import numpy as np
import pytest

from equipot.study.probes import measures

R = np.linspace(0.6, 5.0, 89)


def morse(r, depth=4.0, a=2.0, r0=1.1):
    return depth * (1 - np.exp(-a * (r - r0))) ** 2


def test_a_morse_curve_has_one_minimum_and_repels():
    assert measures.unmatched_minima(R, morse(R), morse(R)) == (0, 0)
    assert measures.unmatched_minima(R, morse(R), None) == (0, None)
    assert measures.wrong_signs(R, morse(R), None) == 0.0


def test_a_wiggle_makes_a_spurious_minimum():
    wiggle = morse(R) - 0.4 * np.exp(-((R - 3.5) ** 2) / 0.02)
    assert measures.unmatched_minima(R, wiggle, morse(R)) == (1, 0)
    assert measures.unmatched_minima(R, wiggle, None) == (1, None)
    assert measures.unmatched_minima(R, morse(R), wiggle) == (0, 1)


def test_a_minimum_in_the_wrong_place_is_spurious_and_one_is_missed():
    assert measures.unmatched_minima(R, morse(R, r0=2.5), morse(R)) == (1, 1)
    assert measures.unmatched_minima(R, morse(R, r0=1.2), morse(R)) == (0, 0)


def test_ripples_below_the_threshold_are_no_minima():
    ripple = morse(R) + 2e-4 * np.sin(40 * R)
    assert measures.unmatched_minima(R, ripple, None) == (0, None)


def test_a_hole_at_short_range_has_the_wrong_sign():
    hole = np.where(R < 0.8, morse(np.array(0.8)) - 30 * (0.8 - R), morse(R))
    assert measures.wrong_signs(R, hole, morse(R)) > 0.4
    assert measures.inner_force(R, hole).min() < 0 < measures.inner_force(R, morse(R)).min()


def test_the_reference_may_attract_at_the_short_end():
    falling = -((R - 3.0) ** 2)
    assert measures.wrong_signs(R, falling, falling) == 0.0
    assert measures.wrong_signs(R, falling, None) == 1.0


def test_the_second_derivative_is_that_of_a_parabola_on_any_grid():
    x = np.sort(np.random.default_rng(0).uniform(0, 3, 20))
    assert measures.second_derivative(x, 2.5 * x**2 - x) == pytest.approx(np.full(18, 5.0), rel=1e-6)


def test_roughness_falls_with_the_step_on_a_smooth_curve_and_not_on_a_rough_one():
    fine = np.linspace(0.6, 5.0, 353)
    smooth = measures.roughness(R, morse(R)), measures.roughness(fine, morse(fine))
    assert smooth[0] < 0.05 and smooth[1] < smooth[0] / 8
    noise = np.random.default_rng(1)
    assert measures.roughness(R, morse(R) + noise.normal(0, 0.05, len(R))) > 0.5


def test_curvature_error_is_the_difference_of_curvatures():
    assert measures.curvature_error(R, 3.0 * R**2, R**2) == pytest.approx(4.0)


def test_points_at_one_place_are_averaged():
    x, energy, none = measures.tidy(np.array([2.0, 1.0, 2.0]), np.array([5.0, 1.0, 7.0]), None)
    assert x.tolist() == [1.0, 2.0] and energy.tolist() == [1.0, 6.0] and none is None
