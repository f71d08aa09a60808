"""Chooses weight types and the context for a board within limits: costs, sensitivity, search, then finalists."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import cache
from ..boards.emulators import EMULATED
from ..energy import regression
from ..energy.regression import Fit
from ..errors import BadInput, RunFailed
from ..measure import quality
from ..measure.collect import Request, check_lengths, check_timeout, collect
from ..measure.quality import Quality
from ..models import board_fit, calibration_stats
from ..models.calibration_stats import Doubles
from ..models.convert import convert
from ..models.inspection import Need
from ..models.source import sha256
from ..models.tokenize import read_text
from ..progress import Progress
from ..quantize import weight_types
from ..quantize.calibrated import Rounding
from ..records.runs import Run, Test
from . import costs, sensitivity
from .costs import Costs
from .footprint import Footprint
from .knapsack import Choice, Option, Search, better
from .matrix_types import Matrix
from .sensitivity import WINDOW, Sensitivity

BASE = "Q4_0"  # type of the model with which costs are measured, and --type of convert with a recipe
LONGEST, LEAST = 256, 32  # contexts to try if none are given
STEPS = 8  # of each bound, for the Pareto front
BOARD_TOKENS = 128  # tokens of the text for the perplexity on the board
LEFTOVERS = 4096  # bytes of heap; garbage that MicroPython's collector leaves is less than this


@dataclass(frozen=True)
class Bounds:
    """Upper limits, each None for no limit.

    ram, flash: bytes.
    instr: instructions per token, on emulated boards.
    ms: milliseconds per token, on boards whose counter measures time.
    perplexity: relative increase over the F32 model; 0.05 is 5 %."""

    ram: int | None = None
    flash: int | None = None
    instr: float | None = None
    ms: float | None = None
    perplexity: float | None = None


@dataclass(frozen=True)
class Wanted:
    """What to optimize.

    source, tokenizer: the model, as `convert` takes it.
    board: name of an emulated board or a serial port.
    text: calibration text.
    bounds: limits.
    held_out: text for the perplexity limit; None for the calibration text.
    energy: file of an energy fit, or None.
    contexts: candidates; the longest that meets all bounds is chosen. Empty for the default.
    types: candidates; empty for all types of the board.
    batch: tokens per prefill call.
    tokens: tokens of a text for each loss.
    calibration_tokens: tokens of the calibration text for the rounding.
    stream: read weights from storage even if they fit in flash or RAM.
    timeout: seconds without output from the board."""

    source: Path
    tokenizer: Path | None
    board: str
    text: Path
    bounds: Bounds = Bounds()
    held_out: Path | None = None
    energy: Path | None = None
    contexts: tuple[int, ...] = ()
    types: tuple[str, ...] = ()
    batch: int = 8
    tokens: int = 1024
    calibration_tokens: int = 16384
    stream: bool = False
    timeout: float = 120.0


@dataclass(frozen=True)
class Plan:
    """A choice of types with a context.

    choice: the types.
    context: positions of the KV cache.
    need: RAM.
    loss: predicted KL divergence from F32, in nats per token.
    joules: modelled energy per token at the end of the context; NaN without a fit."""

    choice: Choice
    context: int
    need: Need
    loss: float
    joules: float = math.nan

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.choice.bytes

    @property
    def units(self) -> float:
        """Predicted units per token at the end of the context."""
        return self.choice.units

    @property
    def types(self) -> dict[str, str]:
        """Weight type by matrix name."""
        return self.choice.types


@dataclass
class Finalist:
    """A plan that was converted and measured.

    plan: the plan.
    model: its file.
    whole: quality on the calibration text.
    held_out: quality on the held-out text.
    board: quality on the tokens that the board computes, from the unix port.
    run: its run on the board."""

    plan: Plan
    model: Path
    whole: Quality
    held_out: Quality | None = None
    board: Quality | None = None
    run: Run | None = None


@dataclass
class Found:
    """The result of an optimization.

    wanted, costs, sensitivity, energy: what it is based on.
    most_ram, most_flash, most_units: the bounds in bytes and units per token.
    best: the chosen plan; None if none is within the bounds.
    nearest: the plan nearest to the bounds if there is no best.
    why: which bounds `nearest` exceeds.
    front: the Pareto front of bytes, units and loss.
    contexts: the best plan for each context that was tried, or None.
    uniform: plans with one type for all matrices.
    finalists: plans that ran on the board.
    failed: the error that kept them from running."""

    wanted: Wanted
    costs: Costs
    sensitivity: Sensitivity
    energy: Fit | None
    most_ram: int
    most_flash: float
    most_units: float
    best: Finalist | None = None
    nearest: Plan | None = None
    why: list[str] = field(default_factory=list)
    front: list[Plan] = field(default_factory=list)
    contexts: list[tuple[int, Plan | None]] = field(default_factory=list)
    uniform: list[Plan] = field(default_factory=list)
    finalists: list[Finalist] = field(default_factory=list)
    failed: RunFailed | BadInput | None = None


class Optimizer:
    """The measurements for one model and board, and searches over them.

    wanted: what to optimize.
    scratch: folder for temporary files.

    The attribute bounds may be changed between searches. Raises BadInput for a request that cannot be met."""

    def __init__(self, wanted: Wanted, scratch: Path, progress: Progress) -> None:
        self._wanted, self._scratch, self._progress = wanted, scratch, progress
        self.bounds = wanted.bounds
        self._energy = regression.read_fit(wanted.energy) if wanted.energy else None
        self.exact, base = scratch / "f32.gguf", scratch / "base.gguf"
        convert(wanted.source, wanted.tokenizer, self.exact, "F32")
        convert(wanted.source, wanted.tokenizer, base, BASE)
        portable = Footprint(base, "portable", wanted.batch)
        self._contexts = self._allowed_contexts(portable.context)
        longest = max(self._contexts)
        self._costs = costs.measure_costs(
            wanted.board, base, portable.sizes, longest, wanted.batch, wanted.stream, progress
        )
        when = f"from the cache, {self._costs.when}" if self._costs.kept else "now"
        progress.step(f"costs of {wanted.board}: measured {when}")
        self._check_energy()
        self._most_units = self._units_bound()
        self._foot = foot = Footprint(base, self._costs.kernels, wanted.batch, self._costs.placement)
        self._matrices = {matrix.name: matrix for matrix in foot.matrices}
        self._types = self._usable_types()
        self._rounding = Rounding("gptq", self._moments())
        text = sensitivity.read_windows(self.exact, wanted.text, wanted.tokens)
        about = [self._rounding.method, wanted.calibration_tokens, sha256(wanted.text)]
        self._sensitivity = sensitivity.measure_losses(
            self.exact,
            foot.matrices,
            self._types,
            self._rounding,
            text,
            about,
            self._costs.path,
            wanted.timeout,
            progress,
        )
        self._options = [
            self._option(matrix, type_, loss)
            for matrix in foot.matrices
            for type_, loss in self._sensitivity.losses.get(matrix.name, {}).items()
        ]
        plain = self._uniform(BASE)
        context = self._costs.run.model.context if self._costs.run.model else longest
        more = self._costs.held - foot.need(plain, context).ram
        self._package = more if more > LEFTOVERS else 0
        self._fixed = foot.bytes(plain) - sum(matrix.bytes(plain[matrix.name]) for matrix in foot.matrices)
        self._lightest = self._least(lambda m, t: foot.activations(t, m.cols))
        self._smallest = self._least(Matrix.bytes)
        self._rams: dict[tuple[str, str, int], int] = {}
        self._judged: dict[tuple[str, ...], Finalist] = {}

    def _option(self, matrix: Matrix, type_: str, loss: float) -> Option:
        units = (self._costs.matrix(matrix, type_) or 0.0) + self._costs.storage(matrix, type_)
        quantizing = self._costs.inputs(matrix, type_) or 0.0
        return Option(matrix.name, type_, matrix.bytes(type_), units, loss, matrix.inputs, quantizing)

    def _least(self, size: Callable[[Matrix, str], int]) -> dict[str, str]:
        """The type with the smallest size for each matrix."""
        return {
            m.name: min((o.type for o in self._options if o.matrix == m.name), key=lambda t: size(m, t))
            for m in self._foot.matrices
        }

    def _moments(self) -> Mapping[str, Doubles]:
        """Statistics of activations on the calibration text, for the rounding; cached."""
        wanted = self._wanted
        key = [sha256(self.exact), sha256(wanted.text), wanted.calibration_tokens]
        place = cache.place("moments", key, ".npz")
        found = cache.read_arrays(place)
        if not found:
            self._progress.step("reading the text with the F32 model")
            found = calibration_stats.moments(self.exact, wanted.text, wanted.calibration_tokens)
            cache.write_arrays(place, found)
        return found

    def _allowed_contexts(self, trained: int) -> tuple[int, ...]:
        """The contexts to try, longest first. trained: context for which the model was trained."""
        if too_long := [c for c in self._wanted.contexts if c > trained]:
            raise BadInput(f"-c {too_long[0]}: the model was trained for a context of {trained}; give at most that")
        if self._wanted.contexts:
            return tuple(sorted(self._wanted.contexts, reverse=True))
        found = [min(LONGEST, trained)]
        while found[-1] // 2 >= LEAST:
            found.append(found[-1] // 2)
        return tuple(found)

    def _units_bound(self) -> float:
        bounds, run, board = self.bounds, self._costs.run, self._wanted.board
        if bounds.ms is not None:
            if run.per_second is None:
                raise BadInput(
                    f"--max-ms-per-token needs a board that measures time: {board} counts {run.unit} ({run.source});"
                    " give --max-instr-per-token instead"
                )
            return bounds.ms / 1e3 * run.per_second
        if bounds.instr is not None and run.unit != "instr":
            raise BadInput(
                f"--max-instr-per-token needs an emulated board: {board} counts {run.unit} ({run.source});"
                " give --max-ms-per-token instead"
            )
        return math.inf if bounds.instr is None else bounds.instr

    def _check_energy(self) -> None:
        """Raises BadInput if the energy fit needs time and the board does not measure it."""
        run, fit = self._costs.run, self._energy
        timed = [name for name in ("seconds", "cycles") if fit and name in fit.on]
        if timed and run.per_second is None:
            raise BadInput(
                f"--energy: the fit uses {', '.join(timed)}, but {self._wanted.board} counts {run.unit}"
                f" ({run.source}); use a board that measures time, or a fit made with `--on macs,bytes`"
            )
        if "cycles" in timed and not (run.begin and run.begin.clock_hz):
            raise BadInput(
                f"--energy: the fit uses cycles, but the clock of {self._wanted.board} is unknown; use a fit made with"
                " `--on seconds,macs,bytes`"
            )

    def _joules(self, choice: Choice, context: int) -> float:
        """Joules per token by the fit, for the work that a run would count; NaN without a fit."""
        if self._energy is None:
            return math.nan
        run, test = self._costs.run, Test("", "decode", costs.TOKENS, context - costs.TOKENS, 0)
        seconds = test.tokens * choice.units / run.per_second if run.per_second else math.nan
        records = self._foot.records(choice.types, context)
        return self._energy.joules(regression.features(run, records, test, seconds)) / test.tokens

    def _usable_types(self) -> list[str]:
        """The candidate types that were measured and fit at least one matrix."""
        known = [t for t in weight_types.TYPES if t in self._costs.roof.types and t not in ("F32", "F16")]
        found = []
        for type_ in self._wanted.types or known:
            if not any(matrix.takes(type_) for matrix in self._matrices.values()):
                continue
            if type_ not in self._costs.roof.types:
                raise BadInput(
                    f"--types {type_}: not measured on {self._wanted.board} (not in its build, or too little RAM);"
                    " choose another type"
                )
            found.append(type_)
        for matrix in self._matrices.values():
            if not any(matrix.takes(type_) for type_ in found):
                size = f"{matrix.rows} x {matrix.cols}"
                raise BadInput(f"{matrix.name} ({size}) takes none of these types; add another with --types")
        return found

    def _uniform(self, type_: str) -> dict[str, str]:
        """One type for all matrices, by name; convert's fallback where the shape does not fit."""
        return {matrix.name: matrix.fitting(type_) for matrix in self._matrices.values()}

    def _need(self, types: Mapping[str, str], context: int) -> Need:
        """RAM, including the package and native module if they are in RAM too, as measured in the run."""
        need = self._foot.need(types, context)
        return replace(need, package=need.package + self._package)

    def _ram(self, matrix: str, type_: str, context: int) -> int:
        """RAM with that type for the matrix's role in all layers, and everything else as small as possible.

        Only shared inputs are quantized for several types at once, so a whole model needs about the maximum over its
        matrices of this figure."""
        role = self._matrices[matrix].role
        key = (role, type_, context)
        if key not in self._rams:
            light, small = (
                self._need(
                    {
                        name: type_ if m.role == role and m.takes(type_) else elsewhere[name]
                        for name, m in self._matrices.items()
                    },
                    context,
                )
                for elsewhere in (self._lightest, self._smallest)
            )
            self._rams[key] = light.ram - light.weights + small.weights
        return self._rams[key]

    @property
    def _most_ram(self) -> int:
        heap = self._costs.heap
        return min(heap, self.bounds.ram or heap)

    @property
    def _board_flash(self) -> float:
        board, mapped = self._wanted.board, self._costs.placement == "mapped"
        return EMULATED[board].rom_bytes - board_fit.PACKAGE if mapped and board in EMULATED else math.inf

    @property
    def _most_flash(self) -> float:
        return min(self.bounds.flash or math.inf, self._board_flash)

    def _most_bytes(self, flash: float, ram: int, context: int) -> float:
        """Largest size of the file within bounds of flash, and of RAM if the file is read into RAM."""
        if self._costs.placement != "ram":
            return flash
        need = self._need(self._lightest, context)
        return max(min(flash, ram - (need.ram - need.weights)), 1)

    def _search(self, context: int, most: int) -> Search | None:
        """A search over the options that need at most that much RAM; None if a matrix has no such option."""
        options = [o for o in self._options if self._ram(o.matrix, o.type, context) <= most]
        fixed = self._fixed, self._costs.outside(context)
        return Search(options, fixed) if {o.matrix for o in options} == self._matrices.keys() else None

    def _plan(self, choice: Choice, context: int) -> Plan:
        """The plan for a choice, with its RAM. For streamed weights it corrects the units by the actual reads: the
        search does not know their number, nor the bytes that belong to no product."""
        need = self._need(choice.types, context)
        if self._costs.placement == "stream":
            known = sum(self._costs.storage(m, choice.types[m.name]) for m in self._foot.matrices)
            choice = replace(choice, units=choice.units + self._costs.stream(need.reads, need.read) - known)
        return Plan(choice, context, need, choice.loss + self._sensitivity.base, self._joules(choice, context))

    def best(self, context: int) -> Plan | None:
        """The plan with the least loss within the bounds of RAM, flash and latency; None without one.

        If the search finds nothing, uniform types are tried."""
        return self._searched(context) or min(
            (plan for plan in self.uniform_plans(context) if self._fits(plan)), key=lambda plan: plan.loss, default=None
        )

    def _searched(self, context: int) -> Plan | None:
        ram = self._most_ram
        units = self._most_units + self._costs.read * self._costs.reads  # a plan may need fewer reads than the run
        size = self._most_bytes(self._most_flash, ram, context)
        while search := self._search(context, ram):
            choice = search.best(size, units)
            if choice is None:
                return None
            plan = self._plan(choice, context)
            if plan.need.ram <= self._most_ram and plan.units <= self._most_units:
                return plan
            if plan.units > self._most_units:
                units = choice.units - (plan.units - self._most_units)
            elif self._costs.placement == "ram":
                size = choice.bytes - (plan.need.ram - self._most_ram)
            else:
                ram = max(self._ram(matrix, type_, context) for matrix, type_ in choice.types.items()) - 1
        return None

    def _fits(self, plan: Plan) -> bool:
        return all(value <= most for _, value, most, _ in self._bounded(plan))

    def uniform_plans(self, context: int) -> Iterator[Plan]:
        """Plans with one type for all matrices, one for each type."""
        for type_ in self._types:
            types = self._uniform(type_)
            taken = [o for o in self._options if types[o.matrix] == o.type]
            if len(taken) == len(types):
                choice = Search(taken, (self._fixed, self._costs.outside(context))).best(math.inf, math.inf)
                assert choice is not None
                yield self._plan(choice, context)

    def judge(self, plan: Plan) -> Finalist:
        """The plan converted to a file, with its quality on the calibration text."""
        types = tuple(plan.types.values())
        if types not in self._judged:
            model = self._scratch / f"{len(self._judged)}.gguf"
            convert(self._wanted.source, self._wanted.tokenizer, model, BASE, None, dict(plan.types), self._rounding)
            self._judged[types] = Finalist(plan, model, self._quality(model, self._wanted.text))
        known = self._judged[types]
        return Finalist(plan, known.model, known.whole)

    def _quality(self, model: Path, text: Path, window: int = WINDOW, tokens: int | None = None) -> Quality:
        wanted = self._wanted
        paths = [self._costs.path]
        (found,) = quality.measure([model], self.exact, text, paths, window, tokens or wanted.tokens, wanted.timeout)
        return found

    def finalist(self, plan: Plan) -> Finalist:
        """The one with the least measured loss among a plan and the uniform types within the bounds.

        The search's losses do not add up exactly, so a uniform type can be better."""
        self._progress.step(f"measuring the best plan for context {plan.context} and uniform types")
        plans = [plan, *(p for p in self.uniform_plans(plan.context) if self._fits(p))]
        best = min((self.judge(p) for p in plans), key=lambda finalist: finalist.whole.kl)
        if self._wanted.held_out:
            best.held_out = self._quality(best.model, self._wanted.held_out)
        return best

    def find(self) -> Found:
        """The result: for the longest context with a plan within all bounds, or the nearest plan."""
        bounds = self._most_ram, self._most_flash, self._most_units
        found = Found(self._wanted, self._costs, self._sensitivity, self._energy, *bounds)
        worse: list[tuple[float, Plan]] = []  # with too high a perplexity
        for context in self._contexts:
            plan = self.best(context)
            found.contexts.append((context, plan))
            if plan is None:
                continue
            finalist = self.finalist(plan)
            judged = finalist.held_out or finalist.whole
            more, most = judged.perplexity / judged.reference - 1, self.bounds.perplexity
            if most is None or more <= most:
                found.best = finalist
                break
            worse.append((more, finalist.plan))
        context = found.best.plan.context if found.best else self._contexts[-1]
        if found.best is None and worse:
            more, found.nearest = min(worse, key=lambda w: w[0])
            context = found.nearest.context
            found.why = [f"perplexity {100 * more:+.2f} % exceeds {100 * (most or 0):+.2f} %"]
        elif found.best is None:
            found.nearest = self._nearest(context)
            found.why = self._violations(found.nearest)
        found.front = self._front(context)
        found.uniform = list(self.uniform_plans(context))
        return found

    def _nearest(self, context: int) -> Plan:
        """The plan that exceeds the bounds by the smallest factor, from the search or of one type."""
        plans = list(self.uniform_plans(context))
        for most in {max(self._ram(o.matrix, o.type, context), self._most_ram) for o in self._options}:
            search = self._search(context, most)
            if search is not None:
                choice = search.nearest(self._most_bytes(self._most_flash, most, context), self._most_units)
                plans.append(self._plan(choice, context))
        return min(plans, key=lambda p: (round(max(value / most for _, value, most, _ in self._bounded(p)), 9), p.loss))

    def _bounded(self, plan: Plan) -> tuple[tuple[str, float, float, str], ...]:
        """(name, value of the plan, bound, unit) of each bounded quantity."""
        shown = self._costs.shown
        return (
            ("RAM", plan.need.ram, self._most_ram, "bytes"),
            ("flash", plan.bytes, self._most_flash, "bytes"),
            ("latency", shown(plan.units), shown(self._most_units), f"{self._costs.unit}/token"),
        )

    def _violations(self, plan: Plan) -> list[str]:
        """The bounds that a plan exceeds, as text."""
        bounded = self._bounded(plan)
        return [
            f"{what} {figure(value)} exceeds {figure(most)} {unit}"
            for what, value, most, unit in bounded
            if value > most
        ]

    def _front(self, context: int) -> list[Plan]:
        """The Pareto front within the board's flash and the RAM bound, without the other bounds."""
        self._progress.step(f"computing the Pareto front at context {context}")
        search = self._search(context, self._most_ram)
        if search is None:
            return []
        most = self._most_bytes(self._board_flash, self._most_ram, context)
        plans = [self._plan(c, context) for c in search.front(most, math.inf, STEPS)]
        plans = [p for p in plans if p.need.ram <= self._most_ram]
        return [p for p in plans if not any(better(other.choice, p.choice) for other in plans)]

    def verify(self, found: Found) -> None:
        """Runs the best plan on the board, and the fastest and the smallest plan of the front.

        Raises RunFailed or BadInput if a run fails or its logits are wrong."""
        assert found.best is not None
        by: tuple[Callable[[Plan], tuple[float, float]], ...] = (
            lambda p: (p.units, p.loss),
            lambda p: (p.bytes, p.loss),
        )
        ends = [min(found.front, key=key) for key in by] if found.front else []
        found.finalists = [found.best]
        for plan in ends:
            if all(plan.types != f.plan.types for f in found.finalists):
                found.finalists.append(self.judge(plan))
        wanted = self._wanted
        text = wanted.held_out or wanted.text
        for i, finalist in enumerate(found.finalists):
            self._progress.step(f"running finalist {i + 1} of {len(found.finalists)} on the board")
            context = finalist.plan.context
            depth = context - costs.TOKENS
            finalist.board = self._quality(finalist.model, text, context, BOARD_TOKENS)
            request = Request(
                wanted.board, finalist.model, p=(), n=(costs.TOKENS,), d=(depth,), r=2, context=context,
                batch=wanted.batch, stream=self._costs.placement == "stream", timeout=wanted.timeout, text=text,
                text_tokens=BOARD_TOKENS,
            )  # fmt: skip
            finalist.run, _ = collect(request, self._scratch / f"run-{i}.jsonl", self._progress)
            if finalist.run.correctness == "WRONG":
                raise RunFailed(
                    f"{wanted.board}: logits differ from the unix port's, so the figures are invalid; fix the kernel"
                )
            if finalist.run.model and finalist.run.model.placement != self._costs.placement:
                raise RunFailed(f"{finalist.model.name} does not fit in one block of the board's RAM; use --stream")


def optimize(wanted: Wanted, scratch: Path, verify: bool, progress: Progress) -> Found:
    """The result of an optimization.

    wanted: what to optimize.
    scratch: folder for temporary files.
    verify: whether to run the finalists on the board.

    Raises BadInput for unusable input, and for bounds that the board's counter cannot measure."""
    check_lengths("context", wanted.contexts, LEAST)
    check_timeout(wanted.timeout)
    if wanted.batch < 1 or wanted.tokens < 1 or any(b is not None and not b > 0 for b in vars(wanted.bounds).values()):
        raise BadInput("batch, tokens and bounds must be positive")
    for type_ in wanted.types:
        if type_ not in weight_types.TYPES:
            raise BadInput(f"no type '{type_}'; choose from {', '.join(weight_types.TYPES)}")
    read_text(wanted.text)
    if wanted.held_out:
        read_text(wanted.held_out)
    optimizer = Optimizer(wanted, scratch, progress)
    found = optimizer.find()
    if verify and found.best:
        try:
            optimizer.verify(found)
        except (RunFailed, BadInput) as e:
            found.failed = e
    return found


def figure(value: float) -> str:
    """A number as text: with thousands separators, or four significant digits if it is below 1,000."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def size(option: str, text: str | None) -> int | None:
    """Bytes from a text such as "200k" or "1M" (k is 1,024); None for None. Raises BadInput, naming the option."""
    return None if text is None else int(_number(option, text, {"k": 1 << 10, "m": 1 << 20}, "200k, 1M or 65536"))


def count(option: str, text: str | None) -> float | None:
    """The number in a text such as "1.5M" (k is 1,000); None for None. Raises BadInput, naming the option."""
    return None if text is None else _number(option, text, {"k": 1e3, "m": 1e6, "g": 1e9}, "900k, 1.5M or 1500000")


def percent(option: str, text: str | None) -> float | None:
    """The fraction in a text such as "+5%"; None for None. Raises BadInput, naming the option."""
    return None if text is None else _number(option, text.removeprefix("+"), {"%": 0.01}, "+5%", unit="%")


def _number(option: str, text: str, factors: Mapping[str, float], such: str, unit: str = "") -> float:
    """The number in a text, times the factor of its suffix.

    factors: by suffix.
    such: examples for the error message.
    unit: suffix that is required, or "" for none."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([a-z%]?)", text.strip().lower())
    letter = match[2] if match else "?"
    if match is None or (letter not in factors and (letter or unit)):
        raise BadInput(f"{option} takes a number such as {such}, not '{text}'")
    if not float(match[1]):
        raise BadInput(f"{option} must be more than 0")
    return float(match[1]) * factors.get(letter, 1.0)
