"""The demo model that comes with the package."""

from pathlib import Path

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "demo-q4_0.gguf"


def model_path(name: str) -> Path:
    """Returns the path of a model file; 'demo' stands for the demo model."""
    return DEMO_MODEL if name == "demo" else Path(name)
