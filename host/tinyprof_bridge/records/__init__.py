"""Records: their types and their line format, the run that they make up, and the figures computed from it.

May import: quantize and the packages before it."""
