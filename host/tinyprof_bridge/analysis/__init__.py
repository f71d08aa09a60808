"""Answers from runs: what bounds them, where the time goes and why, what a change would make, how runs differ.

May import: measure and what stands before it."""
