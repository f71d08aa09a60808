"""Files that `report` writes. A file is replaced only when the new one is complete."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..analysis.compare import Comparison
from ..energy.run_energy import Energy
from ..errors import BadInput
from ..records.metrics import operators, tests
from ..records.runs import Run
from . import qemu_table, trace
from .run_report import power_tables


@dataclass(frozen=True)
class Wanted:
    """The files to write, each None for not at all.

    html: the page.
    charts: folder of PNG and SVG charts.
    csv: folder of tables.
    trace: trace in Chrome's format.
    speedscope: profile in speedscope's format."""

    html: Path | None
    charts: Path | None
    csv: Path | None
    trace: Path | None
    speedscope: Path | None


def write(run: Run, energy: Energy | None, wanted: Wanted) -> list[Path]:
    """The paths of all files, after writing them.

    Raises BadInput if a file cannot be written or a package for charts is missing."""
    files: dict[Path, bytes] = {}
    if wanted.html or wanted.charts:
        with _packages():
            from . import charts, page
        if wanted.html:
            files[wanted.html] = page.html(run, energy).encode()
        if wanted.charts:
            for name, forms in charts.draw(run, energy).items():
                files |= {wanted.charts / f"{name}.{form}": forms[form] for form in ("png", "svg")}
    if wanted.csv:
        files[wanted.csv / "tests.csv"] = tests(run).to_csv(index=False).encode()
        names = ("energy.csv", "energy-operators.csv")
        for name, (_, rows, _) in zip(names, power_tables(run, energy), strict=False):
            files[wanted.csv / name] = rows.to_csv(index=False).encode()
        for test in run.tests.values():
            if test.costs:
                name = f"{test.name.replace(' ', '').replace('@', '-')}.csv"
                files[wanted.csv / f"operators-{name}"] = operators(run, test.name).to_csv(index=False).encode()
                if test.counts:
                    files[wanted.csv / f"counted-{name}"] = (
                        qemu_table.operators(run, test.name).to_csv(index=False).encode()
                    )
    if wanted.trace:
        files[wanted.trace] = trace.chrome(run, energy).encode()
    if wanted.speedscope:
        files[wanted.speedscope] = trace.speedscope(run).encode()
    for path, data in files.items():
        write_whole(path, data)
    return list(files)


def write_comparison(result: Comparison, html: Path) -> None:
    """Writes the page of a comparison. Raises BadInput as `write` does."""
    with _packages():
        from . import page
    write_whole(html, page.comparison(result).encode())


@contextlib.contextmanager
def _packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise BadInput(f"{error.name} is missing: pip install 'tinyprof[report]'") from None


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file at once, with its folder. Raises BadInput if that fails; an old file is then unchanged."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise BadInput(f"cannot write {path}: {error.strerror}") from None
