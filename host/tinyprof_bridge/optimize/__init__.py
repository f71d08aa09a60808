"""The best type for each matrix within a board's bounds: costs, sensitivity, search, and what was found.

May import: report and what stands before it."""
