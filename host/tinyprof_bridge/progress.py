"""Progress on standard error: a bar on a terminal, a line a step elsewhere."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .schema import AnyRecord


class Progress:
    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar: Bar | None = None
        self._test = ""
        self._tenth = 0
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {text}")

    def transferred(self, done: int, total: int) -> None:
        """A transfer has come so far: a line at every tenth."""
        tenth = 10 * done // total
        if tenth > self._tenth or done == total:
            self.step(f"  {done:,} of {total:,} bytes")
        self._tenth = tenth if done < total else 0

    def begin(self, repetitions: int) -> None:
        """repetitions: of all tests together."""
        if sys.stderr.isatty() and not self._console.quiet:
            columns = (
                TextColumn("{task.description:14}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._bar.start()
            self._bar.add_task("warming up", total=repetitions)

    def record(self, record: AnyRecord) -> None:
        if record.kind == "test":
            self._test = record.test
            if self._bar is None:
                self.step(f"measuring {record.test}")
        elif record.kind == "samples" and record.at == 0 and self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=1, description=self._test)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
