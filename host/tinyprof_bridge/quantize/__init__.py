"""Quantization: the weight types, how a block is fitted to weights, calibrated rounding, and recipes.

May import: errors, cache, progress, tables."""
