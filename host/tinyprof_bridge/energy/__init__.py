"""Power sensors and loggers, alignment of their clock with the board's, and joules of tests and operators.

May import: models and what stands before it."""
