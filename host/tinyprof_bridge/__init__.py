"""Host side of tinyprof: converts models, deploys them, collects and explains measurements."""

__version__ = "0.1.0"
