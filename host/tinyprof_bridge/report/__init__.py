"""Runs, comparisons and models for people: terminal, Markdown, CSV, JSON, charts, one HTML page, traces.

May import: analysis and what stands before it."""
