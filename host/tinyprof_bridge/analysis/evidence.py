"""Evidence for findings from the instruction counts of a simulator, if a run has such records."""

from collections import Counter
from collections.abc import Collection

from ..records.runs import Run, Test


def mix(run: Run, test: Test, roles: Collection[str]) -> str:
    """Instruction mix of some operators as text: "; counted: 41 % load, 30 % alu …"; "" if nothing was counted.

    roles: roles of the operators."""
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
    return f"; counted: {shares}; {cycles / instructions:.2f} modelled cycles per instruction"
