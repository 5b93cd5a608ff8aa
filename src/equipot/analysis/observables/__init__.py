"""Observables of trajectories and crystals, with errors, beside a reference's."""

from equipot.analysis.observables.observe import NAMES, Observed, observe
from equipot.analysis.observables.settings import Settings
from equipot.analysis.observables.summary import summary
from equipot.analysis.observables.trajectory import Trajectory, read_trajectory
from equipot.analysis.observables.write import write

__all__ = ["NAMES", "Observed", "Settings", "Trajectory", "observe", "read_trajectory", "summary", "write"]
