"""What a simulator counted in operators, where a run has such records: evidence for findings."""

from collections import Counter
from collections.abc import Collection

from ..records.runs import Run, Test


def mix(run: Run, test: Test, roles: Collection[str]) -> str:
    """'; counted: 41 % load, 30 % alu …' of the instructions of these operators; '' where nothing was counted."""
    wanted = {op.i for op in run.ops if op.role in roles}
    classes: Counter[str] = Counter()
    instructions = cycles = 0
    for record in test.counts:
        if record.i in wanted:
            classes.update(record.classes)
            instructions += record.instr
            cycles += record.cycles
    if not instructions:
        return ""
    shares = ", ".join(f"{100 * n / instructions:.0f} % {name}" for name, n in classes.most_common(4))
    return f"; counted: {shares}; {cycles / instructions:.2f} modelled cycles an instruction"
