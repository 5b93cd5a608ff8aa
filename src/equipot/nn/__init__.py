"""Torch modules on tensors only: they see features, harmonics, radial values, species and index tensors, never a graph or a configuration."""
