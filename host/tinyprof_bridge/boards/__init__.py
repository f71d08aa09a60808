"""Boards, real or emulated: which there are, how to reach them, and how the device package gets onto them.

May import: records and what stands before it."""
