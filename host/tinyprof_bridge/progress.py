"""Progress on standard error: a bar on a terminal, a line a step elsewhere."""

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from .errors import plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar: Bar | None = None
        self._tests: list[str] = []
        self._tenth = 0
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        line = Text.assemble((f"{time.monotonic() - self._began:5.1f} s", "dim"), "  ", plain(text))
        self._console.print(line, soft_wrap=True)

    def transferred(self, done: int, total: int) -> None:
        """A transfer has come so far: a line at every tenth."""
        tenth = 10 * done // total
        if tenth > self._tenth or done == total:
            self.step(f"  {done:,} of {total:,} bytes")
        self._tenth = tenth if done < total else 0

    def begin(self, tests: list[str], repetitions: int) -> None:
        """tests: in the order in which they will run; repetitions: of each."""
        self._tests = tests
        if sys.stderr.isatty() and not self._console.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description:24}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._bar.start()
            self._bar.add_task("loading the model", total=len(tests) * repetitions)
        else:
            self.step("loading the model")

    def advance(self) -> None:
        """One more repetition has come."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def warm_up(self) -> None:
        """Says that the next test of those given to begin is warmed up, or after the last one what follows."""
        if self._tests:
            self.now(f"warming up {self._tests.pop(0)}")
        else:
            self.now("measuring the profiler itself")

    def now(self, text: str) -> None:
        """Says what the board does now."""
        if self._bar is None:
            self.step(text)
        else:
            self._bar.update(self._bar.task_ids[0], description=plain(text))

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
