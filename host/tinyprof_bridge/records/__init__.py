"""What a board writes and what follows from it alone: record types, lines on the wire, runs, their figures.

May import: quantize and what stands before it."""
