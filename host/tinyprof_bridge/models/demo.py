"""Model files by name, and the demo model that comes with the package."""

from pathlib import Path

from ..errors import BadInput

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "demo-q4_0.gguf"


def model_path(name: str) -> Path:
    """Returns the path of a model file; 'demo' stands for the demo model."""
    return DEMO_MODEL if name == "demo" else Path(name)


def read_model(path: Path) -> bytes:
    """The bytes of a model file. Raises BadInput if it is no GGUF file at all."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read the model {path}: {error.strerror}") from None
    if data[:4] != b"GGUF":
        raise BadInput(f"{path} is not a GGUF file: convert it first (tinyprof-bridge convert)")
    return data
