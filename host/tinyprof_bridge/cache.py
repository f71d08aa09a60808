"""What was measured once and holds as long as what it was measured on: files in the user's cache directory."""

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from .errors import RunFailed


def folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyprof"


def place(kind: str, key: object, suffix: str) -> Path:
    """Where that kind of thing lies. key: all that it depends on, in terms of JSON."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    found = folder() / f"{kind}-{digest[:32]}{suffix}"
    try:
        found.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFailed(f"{found.parent}: cannot be made: {error.strerror}; set XDG_CACHE_HOME") from None
    return found


def read(path: Path) -> dict[str, Any]:
    """Nothing where nothing that can be read is there."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """As read."""
    with contextlib.suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as file:
        return {name: file[name] for name in file.files}
    return {}


def write(path: Path, data: dict[str, Any]) -> None:
    """Whole or not at all."""
    _write(path, (json.dumps(data, indent=1) + "\n").encode())


def write_arrays(path: Path, data: dict[str, npt.NDArray[np.float64]]) -> None:
    file = io.BytesIO()
    np.savez(file, **data)  # type: ignore[arg-type]
    _write(path, file.getvalue())


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}") from None
