"""Chooses the best weight type for each matrix within a board's limits: costs, sensitivity, search and report.

May import report and the packages before it."""
