"""Types by matrix within bounds: an exact search, costs and sizes as the board has them, and what the user is told."""

import contextlib
import itertools
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from bridge import bridge as run_bridge
from models import make_model
from tinyprof_bridge.energy import regression
from tinyprof_bridge.errors import BadInput, RunFailed
from tinyprof_bridge.measure import collect
from tinyprof_bridge.models import inspection
from tinyprof_bridge.models.convert import convert
from tinyprof_bridge.optimize import costs, optimizer
from tinyprof_bridge.optimize.footprint import Footprint
from tinyprof_bridge.optimize.knapsack import Option, Search
from tinyprof_bridge.optimize.matrix_types import matrices
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.quantize import weight_types
from tinyprof_bridge.records import metrics, runs, wire

TEXT = "First Citizen: Before we proceed any further, hear me speak, said Dorothy; and the Scarecrow went on.\n"
TYPES = ("Q8_0", "Q4_0", "TP2")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", seed=5, context=64)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT * 8)
    return path


@pytest.fixture(scope="module")
def bridge(model, text, tmp_path_factory):
    """Runs optimize on the model; what was measured is kept from call to call."""
    cache = tmp_path_factory.mktemp("cache")

    def run(*arguments, board="m4", source=model):
        options = ("--text", text, "--board", board, "--types", ",".join(TYPES), "--tokens", "40", *arguments)
        return run_bridge("optimize", source, *options, env={"XDG_CACHE_HOME": str(cache)}, timeout=300)

    run.cache = cache
    return run


def changed(lines, change):
    """The records of a run, each of which went through change."""
    records = [json.loads(line) for line in lines.splitlines()]
    for record in records:
        del record["crc"]
        change(record)
    return b"".join(wire.encode(record) + b"\n" for record in records)


def some_options(rng, names, types):
    """The first three matrices read the same."""
    quantizing = {(n in "abc" or n, t): float(rng.integers(1, 300)) for n in names for t in types}
    return [
        Option(
            n,
            t,
            int(rng.integers(1, 40)) * 32,
            float(rng.integers(1, 1000)),
            float(rng.exponential()),
            "abc" if n in "abc" else n,
            quantizing[n in "abc" or n, t],
        )
        for n in names
        for t in types
    ]


def every(options, fixed):
    """(bytes, units, loss) of all choices."""
    by_matrix = {}
    for option in options:
        by_matrix.setdefault(option.matrix, []).append(option)
    for taken in itertools.product(*by_matrix.values()):
        size, units, loss = (sum(getattr(o, name) for o in taken) for name in ("bytes", "units", "loss"))
        units += sum({(o.inputs, o.type): o.quantizing for o in taken}.values())
        yield size + fixed[0], units + fixed[1], loss


@pytest.mark.parametrize("seed", range(6))
def test_the_search_finds_what_trying_all_finds(seed):
    rng = np.random.default_rng(seed)
    options, fixed = some_options(rng, "abcdef", "xyzw"), (320, 100.0)
    found, search = list(every(options, fixed)), Search(options, fixed)
    for share in (0.1, 0.3, 0.7):
        most = [float(np.quantile([f[i] for f in found], share)) for i in (0, 1)]
        within = [f for f in found if f[0] <= most[0] and f[1] <= most[1]]
        best = search.best(*most)
        assert (best is None) == (not within)
        if best:
            assert best.loss == pytest.approx(min(f[2] for f in within)) and best.proven
            assert best.bytes <= most[0] and best.units <= most[1]
    assert search.best(np.inf, -1.0) is search.best(0, np.inf) is None


def test_the_front_is_of_the_best_and_has_its_ends():
    options, fixed = some_options(np.random.default_rng(9), "abcde", "xyz"), (0, 0.0)
    found = list(every(options, fixed))
    front = Search(options, fixed).front(np.inf, np.inf, 6)
    for c in front:
        point = (c.bytes, c.units, c.loss - 1e-9)
        assert not any(all(f[i] <= point[i] for i in range(3)) for f in found)
    for i, of_front in enumerate(zip(*((c.bytes, c.units, c.loss) for c in front), strict=True)):
        assert min(of_front) == pytest.approx(min(f[i] for f in found))


def test_the_nearest_exceeds_the_bounds_least():
    options, fixed = some_options(np.random.default_rng(3), "abcde", "xyz"), (64, 10.0)
    search, found = Search(options, fixed), list(every(options, fixed))
    most = (min(f[0] for f in found) * 0.8, min(f[1] for f in found) * 0.7)
    assert search.best(*most) is None
    nearest = search.nearest(*most)
    assert nearest.over == pytest.approx(min(max(f[0] / most[0], f[1] / most[1]) for f in found) - 1)
    assert max(nearest.bytes / most[0], nearest.units / most[1]) - 1 == pytest.approx(nearest.over)


def test_matrices_and_what_they_share():
    shapes = {"token_embd.weight": (64, 32), "output.weight": (64, 32)}
    roles = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes |= {f"blk.{i}.{role}.weight": (32, 32) for i in (0, 1) for role in roles}
    found = matrices(shapes)
    assert [m.name + ".weight" for m in found] == list(shapes)
    assert len({m.inputs for m in found}) == 2 + 2 * 4 and not found[0].multiplied
    assert [m.name for m in found if m.inputs == "blk.1.attn"] == [f"blk.1.attn_{kind}" for kind in "qkv"]
    (tied,) = matrices({"token_embd.weight": (64, 32)})
    assert tied.multiplied and tied.read_by_row


@pytest.mark.parametrize("variant", ["armv7em", "armv6m", "rv32", "mve"])
def test_a_footprint_is_that_of_the_file(variant, tmp_path):
    """Of mixed types, by the planner; and a model's RAM is about the most of what its matrices' types take alone,
    where those that read the same have the same."""
    source = make_model(tmp_path / "f32.gguf", hidden=352, dim=64, rope_factors=range(1, 9))
    convert(source, None, tmp_path / "base.gguf", "Q4_0")
    foot, *away = (Footprint(tmp_path / "base.gguf", variant, 8, place) for place in ("mapped", "stream", "ram"))
    types = [t for t in weight_types.TYPES if t not in ("F32", "F16") and foot.matrices[0].takes(t)]
    lightest = min(types, key=lambda t: foot.activations(t, 64))
    rng = np.random.default_rng(1)
    for _ in range(4):
        mix = {matrix.name: str(rng.choice(types)) for matrix in foot.matrices}
        convert(source, None, tmp_path / "mixed.gguf", "Q4_0", mix=mix)
        found, size = inspection.inspect(tmp_path / "mixed.gguf", 32), (tmp_path / "mixed.gguf").stat().st_size
        need = found.mapped[variant]
        assert foot.need(mix, 32) == need and foot.bytes(mix) == size
        assert [f.need(mix, 32) for f in away] == [found.streamed[variant], replace(need, weights=size)]
        same = {m.inputs: mix[m.name] for m in foot.matrices}
        alone = [
            foot.need({m.name: type_ if m.inputs == inputs else lightest for m in foot.matrices}, 32).ram
            for inputs, type_ in same.items()
        ]
        together = foot.need({m.name: same[m.inputs] for m in foot.matrices}, 32).ram
        assert together == pytest.approx(max(alone), rel=0.02)  # how buffers are packed differs a little


@pytest.fixture(scope="module")
def best(bridge, tmp_path_factory):
    """What is found within bounds that no uniform type of little loss keeps, verified on the board."""
    made = {}

    def get(board, *more):
        if (board, *more) not in made:
            out = tmp_path_factory.mktemp(board)
            options = ("--max-flash", "65k", "-c", "64,32", "--verify", "--format", "json")
            files = ("-o", out / "best.gguf", "--recipe-out", out / "best.toml", "--picture", out / "front.svg")
            done = bridge(*options, *files, *more, board=board)
            assert done.returncode == 0, done.stderr
            made[board, *more] = (json.loads(done.stdout), out)
        return made[board, *more]

    return get


@pytest.mark.parametrize("board", [("m4",), ("rv32",), ("m4", "--stream")], ids=" ".join)
def test_predictions_hold_on_the_board(board, best):
    found, out = best(*board)
    assert found["source"] == "emulated-icount" and len(found["verified"]) > 1
    assert found["placement"] == ("stream" if "--stream" in board else "mapped")
    for finalist in found["verified"]:
        rows = {row["name"]: row for row in finalist["rows"]}
        print(board, {name: f"{100 * row['error']:+.2f} %" for name, row in rows.items()})
        assert abs(rows["instr/token"]["error"]) < 0.02
        assert abs(rows["perplexity"]["error"]) < 1e-5
        for ram in (rows.pop("rest of the heap, bytes"), rows.pop("RAM in all, bytes")):
            assert abs(ram["predicted"] - ram["measured"]) < 256
        assert ("weights in RAM, bytes" in rows) == ("--stream" in board)
        for exact in rows.keys() - {"instr/token", "perplexity"}:
            assert rows[exact]["error"] == 0, (exact, rows[exact])
    assert (out / "best.gguf").stat().st_size == found["best"]["flash"] <= 65 << 10
    assert found["best"]["context"] == 64 and b"<svg" in (out / "front.svg").read_bytes()


def test_costs_of_positions_where_the_longest_context_has_no_room(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = tmp_path / "base.gguf"
    convert(make_model(tmp_path / "f32.gguf", kv_heads=4, head_dim=128, context=256), None, base, "Q4_0")
    foot = Footprint(base, "portable", 8)
    found = costs.measure_costs("m4", base, foot.sizes, 256, 8, False, Progress())
    assert sorted(found.more) == [8, 32, 64, 128]
    assert foot.need({m.name: "Q4_0" for m in foot.matrices}, 256).ram > found.heap
    for test in found.run.tests.values():
        token = float(test.totals.mean()) / test.tokens
        changing = sum(test.costs[op.i] for op in found.run.ops if op.op in ("matmul", "embed", "quantize"))
        rest = token - changing / test.runs / test.tokens
        assert found.outside(test.depth + 8) == pytest.approx(rest, rel=0.01)
    middle, longer = (found.outside(64) + found.outside(128)) / 2, 2 * found.outside(128) - found.outside(64)
    assert found.outside(96) == pytest.approx(middle) and found.outside(192) == pytest.approx(longer)


def test_what_a_busy_host_takes_is_no_cost(tmp_path):
    """A run on the unix port, in which another program comes between now and then."""

    def disturb(record):
        if record["kind"] == "samples":
            record["v"][2] += 100_000_000
        elif record["kind"] == "cost" and record["at"] == 0:
            record["v"][5] += 100_000_000

    path, model = tmp_path / "run.jsonl", tmp_path / "model.gguf"
    convert(make_model(tmp_path / "f32.gguf"), None, model, "Q4_0")
    collect.collect(collect.Request("unix", model, p=(), n=(8,), d=(0, 56), r=2, context=64), path, Progress())
    (tmp_path / "busy.jsonl").write_bytes(changed(path.read_bytes(), disturb))
    calm, busy = (costs._costs(runs.load(p), True) for p in (path, tmp_path / "busy.jsonl"))
    assert busy.correction == 1 and busy.outside(64) < 2 * calm.outside(64)


def test_the_ram_of_a_stream_bounds_its_largest_matrices(best, bridge):
    found, _ = best("m4", "--stream")
    ram = {next(iter(p["types"].values())): p["ram"] for p in found["uniform"]}
    most = ram["Q4_0"] + 1000
    done = bridge("--stream", "--max-ram", most, "-c", "64", "--format", "json")
    assert done.returncode == 0 and "starting" not in done.stderr, done.stderr
    chosen = json.loads(done.stdout)["best"]
    assert chosen["ram"] <= most < ram["Q8_0"]
    large = [type_ for matrix, type_ in chosen["types"].items() if "ffn" in matrix]
    assert "Q8_0" not in large and "Q8_0" in chosen["types"].values()


def test_the_ram_of_a_plan_is_within_the_bound(best, bridge):
    """Also that of the front, and where mixtures, which are read more often, take more than a uniform type."""
    found, _ = best("m4", "--stream")
    ram = {next(iter(p["types"].values())): p["ram"] for p in found["uniform"]}
    for most in (ram["TP2"], ram["Q4_0"] - 400):
        done = bridge("--stream", "--max-ram", most, "-c", "64", "--format", "json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert all(plan["ram"] <= most for plan in [found["best"], *found["front"]])


def test_a_file_in_ram_counts_with_its_bytes(bridge):
    """The unix port maps no files; its counter is the host's clock, so that latency is not judged here."""
    options = ("-c", "32", "--types", "Q8_0,Q4_0", "--format", "json", "--max-ram")
    done = bridge(*options, "30k", board="unix")
    assert done.returncode == 1 and "no plan is within the bounds: RAM" in done.stderr
    large, small = (plan["ram"] for plan in json.loads(done.stdout)["uniform"])
    most = (large + small) // 2
    found = json.loads(bridge(*options, most, "--verify", board="unix").stdout)
    best = found["best"]
    assert found["placement"] == "ram" and set(best["types"].values()) == {"Q8_0", "Q4_0"}
    assert most - 2000 < best["ram"] <= most
    rows = {row["name"]: row for row in found["verified"][0]["rows"]}
    for exact in ("flash, bytes", "arena, bytes", "KV cache, bytes", "plan, bytes", "weights in RAM, bytes"):
        assert rows[exact]["error"] == 0, (exact, rows[exact])
    assert rows["weights in RAM, bytes"]["measured"] == best["flash"]


def test_what_was_found_outlives_a_pulled_cable(best, bridge, monkeypatch, tmp_path):
    def pulled(*_):
        raise RunFailed("the board stopped answering")

    whole, out = best("m4")
    monkeypatch.setattr(optimizer, "collect", pulled)  # where finalists run
    options = ("--max-flash", "65k", "-c", "64,32", "--format", "json", "-o", tmp_path / "best.gguf")
    done = bridge(*options, "--verify")
    assert done.returncode == 1 and done.stderr.endswith("tinyprof-bridge: the board stopped answering\n")
    assert json.loads(done.stdout)["front"] == whole["front"]
    assert (tmp_path / "best.gguf").read_bytes() == (out / "best.gguf").read_bytes()


def test_the_best_loses_less_than_uniform_types_of_its_size(best):
    found, _ = best("m4")
    within = [u["loss"] for u in found["uniform"] if u["flash"] <= 65 << 10]
    assert within and found["best"]["loss"] < min(within)
    assert len(set(found["best"]["types"].values())) > 1
    for a, b in itertools.permutations(found["front"], 2):
        keys = ("flash", "units", "loss")
        assert any(a[k] < b[k] for k in keys), (a, b)
    ends = [min(found["front"], key=lambda p, k=k: (p[k], p["loss"]))["types"] for k in ("units", "flash")]
    assert all(end in [finalist["types"] for finalist in found["verified"]] for end in ends)


def test_the_recipe_makes_the_same_model_again(best, model, text, tmp_path):
    _, out = best("m4")
    command = [sys.executable, "-m", "tinyprof_bridge", "convert", model, "--type", "Q4_0", "-o", tmp_path / "m.gguf"]
    subprocess.run([*command, "--recipe", out / "best.toml", "--calibration", text], check=True, capture_output=True)
    assert (tmp_path / "m.gguf").read_bytes() == (out / "best.gguf").read_bytes()


def test_a_second_call_measures_nothing_and_takes_a_context_that_fits(best, bridge):
    found, _ = best("m4")
    done = bridge("--max-ram", min(plan["ram"] for plan in found["uniform"]) - 1, "-c", "64,32")
    assert done.returncode == 0 and "costs: from the cache, measured 20" in done.stdout
    assert "losses: from the cache" in done.stdout
    assert "starting" not in done.stderr and "quantizing one matrix" not in done.stderr
    (chosen,) = (line for line in done.stdout.splitlines() if line.startswith(" chosen"))
    assert chosen.split()[1] == "32"


def test_another_architecture(bridge, tmp_path):
    source = make_model(tmp_path / "qwen2.gguf", architecture="qwen2", layers=1, context=32)
    done = bridge("--types", "Q8_0,TP2", "--max-flash", "60k", "--format", "json", board="m3", source=source)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["best"]["types"].values()) == {"Q8_0", "TP2"}


@contextlib.contextmanager
def clocked(bridge):
    """The board counts cycles of a known clock, as its kept run says."""

    def cycles(record):
        if record["kind"] == "counter":
            record |= {"source": "hw-cycles", "unit": "cycles"}
        elif record["kind"] == "begin":
            record["clock_hz"] = 1_000_000

    (kept,) = (
        path
        for path in bridge.cache.rglob("costs-*.jsonl")
        if all(word in path.read_bytes() for word in (b'"board":"m4"', b'"placement":"mapped"'))
    )
    before = kept.read_bytes()
    try:
        kept.write_bytes(changed(before, cycles))
        yield
    finally:
        kept.write_bytes(before)


def test_a_clock_makes_milliseconds(best, bridge):
    found, _ = best("m4")
    with clocked(bridge):
        ms = found["best"]["units"] / 1e3
        done = bridge("--max-ms-per-token", str(ms * 1.001), "-c", "64", "--format", "json")
        assert done.returncode == 0 and json.loads(done.stdout)["best"]["units"] <= ms * 1001, done.stderr
        done = bridge("--max-ms-per-token", "1", "-c", "64")
        last = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and " exceeds 1 ms/token" in last and " 1 ms/token at the end of the" in done.stdout
        done = bridge("--max-instr-per-token", "1M")
        assert done.returncode == 2 and "give --max-ms-per-token instead" in done.stderr.splitlines()[-1]


def fit(path, **joules):
    """A file with a fit of a board; joules: of one of each column."""
    columns = [regression.Coefficient(name, "", value, 0.0, 0.0) for name, value in joules.items()]
    path.write_text(regression.as_json(regression.Fit(columns, 0.999, 0.011, 60, 5.0, ["a Pico"])))
    return path


def test_joules_of_plans(best, bridge, tmp_path):
    """By predicted time, and the work of a run of the model; without seconds one line says that there are none."""
    found, out = best("m4")
    assert all(plan["joules"] is None for plan in found["front"])
    both = fit(tmp_path / "both.json", seconds=0.066, macs=45e-12, bytes=2e-10)
    options = ("-c", "64", "--max-flash", "65k", "--energy")
    done = bridge(*options, both)
    assert done.returncode == 2 and "the fit uses seconds, but m4 counts instr" in done.stderr.splitlines()[-1]
    with clocked(bridge):
        done = bridge(*options, both, "--format", "json")
    timed = json.loads(done.stdout)
    assert timed["energy"]["source"] == "modelled" and timed["energy"]["held_out"] == 0.011
    request = collect.Request("m4", out / "best.gguf", p=(), n=(8,), d=(56,), r=1, warmup=0, context=64)
    run, _ = collect.collect(request, tmp_path / "run.jsonl", Progress())
    (test,) = run.tests.values()
    macs, moved = (sum(metrics.work(run, op, test)[i] for op in run.ops) / 8 for i in (0, 1))
    seconds = timed["best"]["units"] / 1e6
    assert timed["best"]["joules"] == pytest.approx(0.066 * seconds + 45e-12 * macs + 2e-10 * moved)
    assert all(plan["joules"] > 0.066 * plan["units"] / 1e6 for plan in timed["front"] + timed["uniform"])
    done = bridge(*options, fit(tmp_path / "work.json", macs=45e-12, bytes=2e-10))
    assert "energy/token (modelled)" in done.stdout and "median error on held-out tests 1.10 %" in done.stdout, (
        done.stderr
    )
    assert "60 tests on a Pico; NOT from this board, " in done.stdout


@pytest.mark.parametrize(
    ("bounds", "why"),
    [
        (("--max-flash", "40k", "--max-instr-per-token", "100k"), "latency "),
        (("--max-ram", "30k"), "RAM"),
        (("--max-flash", "60k", "--max-ppl", "+0.000001%"), "perplexity +"),
    ],
)
def test_infeasible_is_one_line_with_the_nearest(bounds, why, best, bridge, tmp_path):
    best("m4")
    done = bridge(*bounds, "-c", "64,32", "-o", tmp_path / "best.gguf", "--recipe-out", tmp_path / "best.toml")
    last = done.stderr.splitlines()[-1]
    reasons, nearest, _ = last.partition("no plan is within the bounds: ")[2].partition("; the nearest is context")
    assert done.returncode == 1 and why in reasons and nearest, done.stderr
    assert not list(tmp_path.iterdir())


def test_no_uniform_type_is_nearer(bridge):
    options = ("--types", "Q4_1,Q5_1", "--max-ram", "30k", "-c", "32", "--format", "json")
    found = json.loads(bridge(*options).stdout)
    nearest = found["nearest"]
    assert all((u["ram"], u["loss"]) >= (nearest["ram"], nearest["loss"]) for u in found["uniform"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--max-ms-per-token", "40"), "give --max-instr-per-token"),
        (("--types", "Q4_K"), "takes none of these types"),
        (("-c", "4096"), "trained for a context of 64"),
    ],
)
def test_bad_input_is_one_line(options, problem, best, bridge):
    best("m4")  # so that nothing has to be measured here
    done = bridge(*options)
    lines = [line for line in done.stderr.splitlines() if " s  " not in line]
    assert (done.returncode, len(lines), problem in lines[-1]) == (2, 1, True), done.stderr


def test_bounds_are_read_or_refused():
    assert [optimizer.size("--max-ram", text) for text in ("200k", "1.5M", "77", None)] == [204800, 1572864, 77, None]
    assert optimizer.count("--max-instr-per-token", "1.5M") == 1.5e6
    assert optimizer.percent("--max-ppl", "+5%") == optimizer.percent("--max-ppl", "5%") == 0.05
    for read, text in itertools.product(
        (optimizer.size, optimizer.count, optimizer.percent), ("many", "0", "-1k", "1x", "")
    ):
        with pytest.raises(BadInput, match="--bound"):
            read("--bound", text)
    for read, text in ((optimizer.size, "5%"), (optimizer.percent, "5"), (optimizer.percent, "5k")):
        with pytest.raises(BadInput, match="takes a number such as"):
            read("--bound", text)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--picture", "front.txt"), "--picture takes"),
        (("--types", "Q9"), "no type 'Q9'"),
        (("-o", "none/best.gguf"), "does not exist"),
        (("--held-out", "none.txt"), "cannot be read"),
        (("--energy", "none.json"), "cannot read none.json"),
    ],
)
def test_bad_input_of_the_host(options, problem, bridge):
    done = bridge(*options, board="unix")
    assert done.returncode == 2 and problem in done.stderr.splitlines()[-1], done.stderr
