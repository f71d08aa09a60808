"""Progress on standard error: a progress bar on a terminal, one line per step elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from .errors import plain

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Reports the steps of one command. The bar exists between begin() and end()."""

    def __init__(self, quiet: bool = False) -> None:
        """quiet: prints nothing."""
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar: Bar | None = None
        self._tests: list[str] = []
        self._tenth = 0
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        """Prints a line, preceded by the seconds since this object was made."""
        line = Text.assemble((f"{time.monotonic() - self._began:5.1f} s", "dim"), "  ", plain(text))
        self._console.print(line, soft_wrap=True)

    def transferred(self, done: int, total: int) -> None:
        """Reports the progress of a transfer, in bytes. Prints a line at every tenth of the total."""
        tenth = 10 * done // total
        if tenth > self._tenth or done == total:
            self.step(f"  {done:,} of {total:,} bytes")
        self._tenth = tenth if done < total else 0

    def begin(self, tests: list[str], repetitions: int) -> None:
        """Starts the bar.

        tests: names, in the order in which they will run.
        repetitions: of each test, without warm-ups."""
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
        """Reports that one more repetition is done."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def warm_up(self) -> None:
        """Reports the warm-up of the next test; after the last test, the measurement of the profiler's own cost."""
        if self._tests:
            self.now(f"warming up {self._tests.pop(0)}")
        else:
            self.now("measuring the profiler itself")

    def now(self, text: str) -> None:
        """Shows what the board is doing now."""
        if self._bar is None:
            self.step(text)
        else:
            self._bar.update(self._bar.task_ids[0], description=plain(text))

    def end(self) -> None:
        """Removes the bar. Does nothing where there is none."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class CallbackProgress(Progress):
    """Progress for programs: calls a function with one line of text a step. Without a function it is silent."""

    def __init__(self, callback: Callable[[str], object] | None) -> None:
        super().__init__(quiet=True)
        self._callback = callback

    def step(self, text: str) -> None:
        if self._callback is not None:
            self._callback(plain(text))
