"""Probes: how a model goes along a path of structures, against a reference or by sanity alone."""

from equipot.study.probes.evaluate import check_frames, evaluate_probe, labelled_paths
from equipot.study.probes.spec import CoordinateSpec, GenerateSpec, ProbeSpec

__all__ = ["CoordinateSpec", "GenerateSpec", "ProbeSpec", "check_frames", "evaluate_probe", "labelled_paths"]
