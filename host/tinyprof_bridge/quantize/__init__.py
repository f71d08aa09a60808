"""Weights to few bits and back: the weight types, the values that blocks can hold, calibrated rounding, recipes.

May import: errors, cache, progress, tables."""
