"""Fitting a model that is linear in its parameters: the rows of the problem, its solvers, and the run."""
