"""Boards, real or emulated: finding them, running code on them, and deploying the device package to them.

May import: records and the packages before it."""
