"""Model files before they run: reading every format, converting, planning, and what a board needs for them.

May import: boards and what stands before it."""
