"""Analysis of runs: ceilings, attribution, findings, what-if predictions and comparisons.

May import measure and the packages before it."""
