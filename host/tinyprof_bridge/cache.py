"""Results that are kept between runs, as files in the user's cache directory.

A file's name holds a hash of everything its content depends on. When a dependency changes, the name changes too, so
an outdated result is never read."""

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
    """Returns the cache directory: $XDG_CACHE_HOME/tinyprof, by default ~/.cache/tinyprof."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyprof"


def place(kind: str, key: object, suffix: str) -> Path:
    """Returns the path of a cached result, whether or not the file exists. Creates its folder.

    kind: start of the file's name, such as "costs".
    key: everything that the result depends on; must be serializable as JSON.
    suffix: of the file, such as ".json".
    Raises RunFailed if the folder cannot be created."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    found = folder() / f"{kind}-{digest[:32]}{suffix}"
    try:
        found.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFailed(
            f"{found.parent}: cannot create this cache folder: {error.strerror}; set XDG_CACHE_HOME to a writable one"
        ) from None
    return found


def read(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file; an empty one if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the arrays in an .npz file by name; none if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as file:
        return {name: file[name] for name in file.files}
    return {}


def write(path: Path, data: dict[str, Any]) -> None:
    """Writes a JSON object to a file. Raises RunFailed if that fails."""
    _write(path, (json.dumps(data, indent=1) + "\n").encode())


def write_arrays(path: Path, data: dict[str, npt.NDArray[np.float64]]) -> None:
    """Writes arrays to an .npz file. Raises RunFailed if that fails."""
    file = io.BytesIO()
    np.savez(file, **data)  # type: ignore[arg-type]
    _write(path, file.getvalue())


def _write(path: Path, data: bytes) -> None:
    # Renaming a finished file keeps readers, and a second process, from seeing a partial one.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}; free some space or set XDG_CACHE_HOME") from None
