"""What runs say: side by side, why they are slow, and what a change would make of them."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..analysis import attribution, verify, whatif
from ..analysis import compare as comparing
from ..analysis import explain as explaining
from ..errors import plain
from ..measure.collect import problems
from ..progress import CallbackProgress
from ..records import runs
from ..report import files
from . import notebook
from .runs import Callback, FilePath, Run, as_run, interruptible


class Comparison:
    """Runs side by side. In tables the first group is what the others are compared with.

    Columns: group, unit, n (samples), median with its 95 % interval (low, high), ratio to the first group, p
    (Mann-Whitney U), and real: whether the change is more than chance.

    Attributes:
        record: the comparison as the package has it, `tinyprof_bridge.analysis.compare.Comparison`.
    """

    def __init__(self, record: comparing.Comparison) -> None:
        self.record = record

    @property
    def groups(self) -> list[str]:
        """The names of the groups."""
        return [group.name for group in self.record.groups]

    @property
    def notes(self) -> list[str]:
        """In what the groups differ, and why they should not be compared where that was allowed."""
        return self.record.notes

    @property
    def tests(self) -> pd.DataFrame:
        """One row per test and group, units per token."""
        return self._figures("test").rename(columns={"name": "test"})

    @property
    def operators(self) -> pd.DataFrame:
        """One row per operator, test and group, units per token."""
        return self._figures("operator").rename(columns={"name": "role", "in_test": "test"})

    @property
    def memory(self) -> pd.DataFrame:
        """One row per use of memory and group, bytes."""
        return self._figures("memory").rename(columns={"name": "what"})

    def slower(self, percent: float) -> list[str]:
        """The tests that are slower than in the first group by more than this, and not by chance.

        Raises BadInput where that cannot be judged: a test is missing, or there are too few repetitions."""
        return comparing.regressions(self.record, percent / 100)

    def to_markdown(self) -> str:
        """All tables, as `tinyprof-bridge compare -o md` prints them."""
        return comparing.markdown(self.record)

    def to_html(self, path: FilePath) -> Path:
        """Writes the page, and returns its path.

        Raises BadInput where it cannot be written, or a package for charts is missing."""
        files.write_comparison(self.record, Path(path))
        return Path(path)

    def _figures(self, kind: str) -> pd.DataFrame:
        rows = [row for row in comparing.records(self.record) if row["kind"] == kind]
        unused = ["kind"] if kind == "operator" else ["kind", "in_test"]
        frame = pd.DataFrame(rows).drop(columns=unused, errors="ignore").assign(source=self.record.source)
        floats = {name: float for name in ("low", "high", "ratio", "p") if name in frame}  # None is NaN
        return frame.astype(floats)

    def __repr__(self) -> str:
        return f"<Comparison of {' | '.join(self.groups)}: {self.record.unit} by {self.record.source}>"

    def _repr_html_(self) -> str:
        bad = [note for note in self.notes if note.startswith("NOT COMPARABLE")]
        parts = [notebook.alarms(bad), notebook.notes(note for note in self.notes if note not in bad)]
        for i, (title, frame, columns) in enumerate(comparing.parts(self.record, every_test=False)):
            parts.append(notebook.section(title, notebook.table(frame, columns), opened=i == 0))
        parts.append(notebook.notes([comparing.footnote(self.record)]))
        state = ("NOT COMPARABLE", "bad") if bad else ("complete and valid", "good")
        badges = [state, (f"{self.record.unit} by {self.record.source}", "")]
        return notebook.page(" | ".join(self.groups), badges, parts)


class Explanation:
    """Why a run is as slow as it is.

    Attributes:
        record: the explanation as the package has it, `tinyprof_bridge.analysis.explain.Explanation`.
    """

    def __init__(self, record: explaining.Explanation) -> None:
        self.record = record

    @property
    def test(self) -> str:
        """The name of the test that is explained."""
        return self.record.found.test.name

    @property
    def findings(self) -> pd.DataFrame:
        """One row per finding, alarms first: what, evidence, gain (units per token at most, NaN if unknown), step to
        try, alarm."""
        rows = [(f.what, f.evidence, f.gain, f.step, f.alarm) for f in self.record.findings]
        frame = pd.DataFrame(rows, columns=["what", "evidence", "gain", "step", "alarm"])
        return frame.astype({"gain": float, "alarm": bool})

    @property
    def operators(self) -> pd.DataFrame:
        """One row per operator: units per token, their share, and the parts that add up to them (profiler, calls,
        storage, compute, memory, unknown)."""
        run = self.record.run
        return pd.DataFrame(attribution.share_rows(self.record.found)).assign(unit=run.unit, source=run.source)

    @property
    def roofline(self) -> pd.DataFrame:
        """One row per operator with multiplications: MAC/byte, MACs per unit, the measured ceiling, what bounds it."""
        return attribution.roofline(self.record.found, self.record.run, self.record.roof)

    @property
    def notes(self) -> list[str]:
        """How the figures were obtained, and what is missing."""
        return explaining.notes(self.record)

    def to_markdown(self) -> str:
        """The explanation, as `tinyprof-bridge explain -o md` prints it."""
        return explaining.markdown(self.record)

    def __repr__(self) -> str:
        run = self.record.run
        lines = "; ".join(finding.what for finding in self.record.findings) or "nothing stands out"
        return f"<Explanation of {self.test}, {run.unit} by {run.source}: {plain(lines)}>"

    def _repr_html_(self) -> str:
        why, run = self.record, self.record.run
        items = [
            (f.what, [("evidence", f.evidence), ("gain", explaining.gain(why, f)), ("try", f.step)])
            for f in why.findings
        ]
        parts = [notebook.numbered(items) if items else notebook.notes(["Nothing stands out."])]
        for i, (title, frame, columns) in enumerate(explaining.tables(why)):  # the last row of the first is the whole
            parts.append(notebook.section(title, notebook.table(frame, columns, len(frame)), opened=i == 0))
        parts.append(notebook.notes(self.notes))
        name = f"{run.model.name if run.model else 'run'} on {run.host.board if run.host else 'a board'}"
        return notebook.page(f"why {self.test} of {name} takes its time", _badges(run), parts)


class Prediction:
    """What a change would make of a run, and what it really made of it where that was measured.

    Attributes:
        measured: the run with the change; None where it was not run.
    """

    def __init__(self, run: runs.Run, record: whatif.Prediction, measured: Run | None) -> None:
        self._run, self._record, self.measured = run, record, measured

    @property
    def table(self) -> pd.DataFrame:
        """One row per estimate: name of a test or a use of memory, now, expected between low and high, unit (per token,
        or bytes). measured, error (a share), inside (the predicted range) are empty where nothing was measured."""
        return verify.table(self._record, self._measured)

    @property
    def notes(self) -> list[str]:
        """What to know of the estimates."""
        return verify.notes_of(self._record, self._measured)

    @property
    def _measured(self) -> runs.Run | None:
        return self.measured.record if self.measured else None

    def __repr__(self) -> str:
        change = self._record.change
        how = "predicted and measured" if self.measured else "predicted"
        return f"<Prediction of {change.what}={change.value}: {how} from {self._run.unit} by {self._run.source}>"

    def _repr_html_(self) -> str:
        title, frame, columns = verify.printed(self._run, self._record, self._measured)
        parts = [notebook.table(frame, columns), notebook.notes(self.notes)]
        return notebook.page(title, _badges(self._run), parts)


def _badges(run: runs.Run) -> list[tuple[str, str]]:
    bad = problems(run, None)
    state = ("NOT VALID", "bad") if bad else ("complete and valid", "good")
    return [state, (f"{run.unit} by {run.source}", "")]


def compare(runs: Iterable[Run | FilePath], by: str = "", allow: bool = False) -> Comparison:
    """Runs side by side: medians, changes, and whether these are more than chance.

    Args:
        runs: two or more, or their files; the first is what the others are compared with.
        by: recorded fields to group runs by, e.g. 'types' or 'board,batch'; empty: each run for itself.
        allow: whether to compare runs that cannot be compared, with a note that says so.

    Raises:
        BadInput: there are fewer than two groups, or a run is incomplete, wrong, or cannot be compared.

    >>> before, after = [tp.collect("m4", p=(), n=4, r=1, batch=batch) for batch in (8, 4)]
    >>> tp.compare([before, after]).slower(5)
    []
    """
    given = [runs] if isinstance(runs, Run | str) else runs
    return Comparison(comparing.compare_runs([as_run(run).record for run in given], by, allow))


def explain(run: Run | FilePath, test: str | None = None) -> Explanation:
    """Why a run is as slow as it is, and what to try.

    Args:
        run: a run or its file.
        test: the name of the test to explain, e.g. 'tg32 @ d64'; None: the first decode.

    Raises:
        BadInput: the run has no such test, or lacks records.

    >>> tp.explain(tp.collect("m4", p=(), n=4, r=1))
    <Explanation of tg4, instr by emulated-icount: nothing stands out>
    """
    return Explanation(explaining.explain(as_run(run).record, test))


def what_if(
    run: Run | FilePath,
    change: str,
    verify: bool = False,
    model: FilePath | None = None,
    progress: Callback | None = None,
) -> Prediction:
    """What a change would make of a run, computed from its own numbers.

    Args:
        run: a run or its file.
        change: 'type=Q8_0', 'context=512', 'clock=80MHz' or 'placement=ram'.
        verify: whether to run the change too, on an emulated board or the unix port.
        model: the run's model, for verify; None: the demo model.
        progress: called with one line of text a step of that; None: silent.

    Raises:
        BadInput: the change is unknown, or the run lacks what a prediction is made from.
        RunFailed: the measurement failed.

    >>> tp.what_if(tp.collect("m4", p=(), n=4, r=1), "type=Q8_0")
    <Prediction of type=Q8_0: predicted from instr by emulated-icount>
    """
    return _what_if(as_run(run).record, change, verify, model, progress)


def _what_if(
    run: runs.Run, change: str, verified: bool, model: FilePath | None, progress: Callback | None
) -> Prediction:
    predicted = whatif.predict(run, whatif.parse(change))
    if not verified:
        return Prediction(run, predicted, None)
    path = verify.model_of(run, None if model is None else str(model))
    with interruptible():
        measured = verify.measure(run, predicted.change, path, CallbackProgress(progress))
    return Prediction(run, predicted, Run(measured))
