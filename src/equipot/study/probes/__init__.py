"""Probes: how a model goes along a path of structures, against a reference or by sanity alone."""

from equipot.study.probes.spec import ProbeSpec

__all__ = ["ProbeSpec"]
