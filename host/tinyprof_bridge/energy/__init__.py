"""Energy of a run, per test and per operator: power sensors, logger files, and alignment of their clock with the
board's.

May import models and the packages before it."""
