"""Studies: many runs from one base, and what comes out of them. A plan, executors, results; tables, plots and probes."""
