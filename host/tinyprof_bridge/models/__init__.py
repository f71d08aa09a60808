"""Model files on the host: reading every format, converting, planning, and what a board needs to run one.

May import: boards and the packages before it."""
