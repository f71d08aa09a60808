"""The demo model that comes with the package."""

from pathlib import Path

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "demo-q4_0.gguf"


def model_path(name: str) -> Path:
    """The file of a model by its path, or of the demo model by the name 'demo'."""
    return DEMO_MODEL if name == "demo" else Path(name)
