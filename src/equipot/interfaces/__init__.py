"""Interfaces to other programs: the ASE calculator, molecular dynamics and relaxation with ASE, what a file is."""
