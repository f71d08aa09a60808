"""Reports on runs, comparisons and models: terminal, Markdown, CSV, JSON, charts, HTML page and traces.

May import analysis and the packages before it."""
