"""Runs on boards: one, many, at several clocks, of kernels alone, and of a text.

May import: energy and what stands before it."""
