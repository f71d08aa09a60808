"""Measurements: single runs, matrices of runs, clock sweeps, kernel benchmarks and model quality.

May import energy and the packages before it."""
