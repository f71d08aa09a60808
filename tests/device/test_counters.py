"""What QEMU's plugin counts: held against -icount, against shapes, and its costs against Arm's manuals."""

import json
import os
import random
import re
import subprocess
from collections import OrderedDict
from pathlib import Path

import pytest
from bridge import bridge
from models import make_model
from on_board import ROOT
from tinyprof_bridge.boards import emulators, qemu_counters
from tinyprof_bridge.errors import BadInput, RunFailed
from tinyprof_bridge.measure.collect import Request, collect, prepare
from tinyprof_bridge.models.demo import DEMO_MODEL
from tinyprof_bridge.progress import Progress
from tinyprof_bridge.quantize import weight_types
from tinyprof_bridge.records import runs
from tinyprof_bridge.report import files, qemu_table, run_report

PLUGIN = ROOT / "firmware_builds/plugin"
BOARDS = (*qemu_counters.BOARDS, "m4-stock", "m0-stock", "rv32-stock")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("counters") / "small.gguf", type_="Q4_0", context=64)


DEFAULT = qemu_counters.Wanted()


def profile(board, model, tmp_path, wanted=DEFAULT, **options):
    options = {"p": (4,), "n": (4,), "r": 2} | options
    request = Request(board, model, counting=wanted, **options)
    return collect(request, tmp_path / f"{board}.jsonl", Progress(quiet=True))


@pytest.mark.parametrize("board", ("m0", "m4", "rv32"))
def test_whole_repetitions_are_those_of_icount(board, model, tmp_path):
    """With the interpreter and the many readings of a counter, at which QEMU starts its blocks anew."""
    run, _ = profile(board, model, tmp_path, p=(), n=(4, 8, 16))
    apart = {sum(c.instr for c in t.counts) - sum(t.totals) for t in run.tests.values()}
    assert len(apart) == 1, apart


@pytest.mark.parametrize("board", BOARDS)
def test_instructions_are_those_of_icount(board, model, tmp_path):
    """Each record's cost by the board's own counter is that of the plugin and, each time, the same few around it."""
    run, _ = profile(board, model, tmp_path)
    assert run.complete and run.correctness == "match" and run.source == "emulated-icount"
    for test in run.tests.values():
        around = {c.i: (test.costs[c.i] - c.instr) / c.calls for c in test.counts if c.i > 0}
        assert len(around) == len(run.ops) - 1
        assert len(set(around.values())) == 1 and 10 < around[1] < 100, around
        for c in test.counts:
            assert sum(c.classes.values()) == c.instr
        whole = sum(c.instr for c in test.counts)
        # the call that leaves the outermost region is counted, and is outside the stamps
        assert 0 <= whole - sum(test.totals) < 3000 * test.runs


def test_memory_is_that_of_the_shapes(model, tmp_path):
    run, _ = profile("m4", model, tmp_path)
    test = run.tests["tg4"]
    for c in test.counts:
        op = run.ops[c.i]
        if c.i >= 0 and op.op == "matmul":
            assert c.loaded["weights"] == c.calls * op.rows * weight_types.row_bytes(op.type, op.cols)
            assert c.stored.get("activations", 0) + c.stored.get("kv", 0) == c.calls * op.rows * 4
            assert c.dcache_misses * 32 >= c.loaded["weights"] / c.calls  # the first time at the least
        if c.i >= 0 and op.op == "kv_store":
            assert c.stored["kv"] > 0
        if c.i >= 0 and op.op == "add":
            assert c.loaded["activations"] == 2 * c.stored["activations"] == c.calls * op.cols * 8
            assert c.taken + c.not_taken == c.classes["branch"]
    assert sum(c.loaded.get("kv", 0) for c in test.counts) > 0


def test_runs_are_the_same_to_the_digit(model, tmp_path):
    def figures(folder):
        run, _ = profile("m4", model, folder)
        return [c.model_dump(exclude={"run"}) for t in run.tests.values() for c in t.counts]

    assert figures(tmp_path / "1") == figures(tmp_path / "2")


def test_marks_cost_nothing_that_shows(model, tmp_path):
    """With and without the plugin the board counts the same."""
    with_plugin, _ = profile("m4", model, tmp_path / "with")
    without, _ = profile("m4", model, tmp_path / "without", None)
    for name, test in without.tests.items():
        assert test.costs == with_plugin.tests[name].costs
        assert not test.counts and with_plugin.tests[name].counts


NEST = """
import _tinyprof
from tinyprof import counters, ops
ctl = ops.control()
counters.find().select(ctl)
mark, spin = _tinyprof.mark, _tinyprof.spin
def nest(a, b, c, d):
    mark(ops.MARK_CLEAR)
    mark(ops.MARK_TEST)
    spin(ctl, a)
    mark(1)
    spin(ctl, b)
    mark(2)
    spin(ctl, c)
    mark(ops.MARK_LEAVE)
    spin(ctl, d)
    mark(ops.MARK_LEAVE)
    mark(ops.MARK_LEAVE)
    mark(ops.MARK_DUMP)
nest(100, 100, 100, 100)  # fills the interpreter's cache of look-ups
nest(100, 100, 100, 100)
nest(2100, 3100, 4100, 1100)
"""


@pytest.mark.parametrize("board", ("m4", "rv32"))
def test_regions_of_ones_own_nest(board):
    """What is in the inner one is not in the outer one, which goes on behind it."""
    with prepare(board, None, Progress(quiet=True), DEFAULT) as place:
        assert list(place.transport.run(NEST, 60)) == []
        _, first, second = ({c["region"]: c for c in place.dumps.take("x", 1)} for _ in range(3))
    more = {region: c["instr"] - first[region]["instr"] for region, c in second.items()}
    assert more == {0: 2 * 2000, 1: 2 * (3000 + 1000), 2: 2 * 4000}  # two instructions a turn
    assert second[2]["taken"] - first[2]["taken"] == 4000


def seconds(board, wanted):
    """Processor time of the emulator for some tokens of the demo, those before them left out."""

    def used():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with prepare(board, DEMO_MODEL, Progress(quiet=True), wanted) as place:
        pid = place.pid
        load = "import tinyprof\nm=tinyprof.load('/rom/model.gguf',context=32)\nm.prefill(range(16))\nm.step(1)\n"
        list(place.transport.run(load, 60))
        before = used()
        list(place.transport.run("for i in range(160):\n m.pos=16\n m.step(1)\n", 120))
        return used() - before


@pytest.mark.parametrize("board", ("m0", "m4", "rv32"))
def test_the_emulator_slows_down_less_than_ten_times(board):
    assert seconds(board, DEFAULT) < 10 * max(seconds(board, None), 0.1)


def test_every_form_of_a_report_has_them(model, tmp_path):
    run, path = profile("m4", model, tmp_path)
    text = run_report.markdown(run, None)
    assert "cycles (modelled, m4)" in text and "weights read" in text and "I cache 16,384 bytes" in text
    whole = json.loads(run_report.as_json(runs.load(path), None))
    assert whole["simulated"]["core"] == "m4"
    row = whole["counted"]["tg4"][0]
    assert row["cycles"] > row["instr"] > 0
    written = files.write(run, None, files.Wanted(tmp_path / "page.html", None, tmp_path, None, None))
    assert "cycles (modelled, m4)" in (tmp_path / "page.html").read_text()
    assert {"counted-pp4.csv", "counted-tg4.csv"} <= {path.name for path in written}
    frame = qemu_table.operators(run, "tg4")
    assert frame["share"].sum() == pytest.approx(1)
    assert set(frame["role"]) == {op.role for op in run.ops} | {qemu_table.AROUND}


def test_without_caches(model, tmp_path):
    run, _ = profile("m4", model, tmp_path, qemu_counters.Wanted(None, None), p=())
    assert run.simulated.icache is None
    assert all(c.dcache_misses is None for c in run.tests["tg4"].counts)
    assert "misses" not in run_report.markdown(run, None).partition("bytes and cache misses")[2]


@pytest.mark.parametrize(
    "options,said",
    [
        (["--counters", "some"], "--counters takes off or full"),
        (["--counters", "full", "--icache", "16K"], "--icache takes bytes:ways:line"),
        (["--counters", "full", "--dcache", "48:3:16"], "--dcache takes bytes:ways:line"),
        (["--counters", "full", "--board", "unix"], "--counters full needs QEMU"),
        (["--counters", "full", "--board", "rp2040"], "--counters full needs QEMU"),
    ],
)
def test_bad_options(options, said, tmp_path):
    done = bridge("collect", *options, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_missing_plugin_is_said(model, tmp_path, monkeypatch):
    monkeypatch.setattr(emulators, "build_folder", lambda: tmp_path)
    with pytest.raises(BadInput, match="make firmware"):
        qemu_counters.arguments("m4", qemu_counters.Wanted(), tmp_path / "out")


def test_a_plugin_that_qemu_refuses_is_said(tmp_path):
    (tmp_path / "none.so").write_bytes(b"no library")
    with pytest.raises(RunFailed, match=r"(?s)the emulator ended.*none\.so"):
        emulators.Emulator("m4", None, ["-plugin", str(tmp_path / "none.so")])


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The plugin's decoder and cache as programs."""
    folder = tmp_path_factory.mktemp("native")
    flags = ["gcc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    decoder = [str(PLUGIN / "thumb.c"), str(PLUGIN / "rv32.c")]
    native = ROOT / "tests/support/c_programs"
    subprocess.run([*flags, "-o", str(folder / "costs"), str(native / "insn_costs.c"), *decoder], check=True)
    cache = [str(native / "cache_misses.c"), str(PLUGIN / "cache.c")]
    subprocess.run([*flags, "-fno-sanitize=address", "-o", str(folder / "cache"), *cache], check=True)
    return folder


@pytest.mark.parametrize("size,ways,line", [(256, 1, 16), (512, 4, 32), (128, 8, 16), (1024, 2, 4)])
def test_the_cache_is_lru(size, ways, line, tools):
    chance = random.Random(size + ways)
    addresses = [chance.randrange(4096) for _ in range(5000)]
    sets: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(size // ways // line)]
    misses = 0
    for address in addresses:
        number = address // line
        lines = sets[number % len(sets)]
        if number in lines:
            lines.move_to_end(number)
        else:
            misses += 1
            lines[number] = None
            if len(lines) > ways:
                lines.popitem(last=False)
    command = [str(tools / "cache"), str(size), str(ways), str(line)]
    told = subprocess.run(command, input=" ".join(map(str, addresses)), capture_output=True, text=True, check=True)
    assert int(told.stdout) == misses


# Text of an instruction, class, cycles, what a taken branch adds. From Arm's Technical Reference Manuals.
M0 = """
adds r0, r1, r2: alu 1            muls r0, r1, r0: mul 1        movs r0, #1: alu 1
ldr r0, [r1, #4]: load 2          ldrb r0, [r1, r2]: load 2     str r0, [r1, #4]: store 2
strh r0, [r1, r2]: store 2        ldm r0!, {r1, r2, r3}: load 4 stm r0!, {r1, r2}: store 3
push {r4, lr}: store 3            push {r4, r5, r6, r7}: store 5  pop {r4, r5}: load 3
pop {r4, pc}: branch 5            b .: branch 2                 bne .: branch 1 1
bl .: branch 3                    bx lr: branch 2               blx r0: branch 2
mov pc, r0: branch 2              nop: alu 1                  cmp r0, #1: alu 1
lsls r0, r1, #3: alu 1            sxtb r0, r1: alu 1            rev r0, r1: alu 1
mrs r0, primask: other 3          dsb: other 3                  isb: other 3
"""
M3 = """
add.w r0, r1, r2, lsl #2: alu 1   mul r0, r1, r2: mul 1         mla r0, r1, r2, r3: mul 2
mls r0, r1, r2, r3: mul 2         smull r0, r1, r2, r3: mul 4   umlal r0, r1, r2, r3: mul 5
ssat r0, #8, r1: alu 1            ldr r0, [r1, #4]: load 2      ldr.w r0, [r1, r2, lsl #2]: load 2
str r0, [r1, #4]: store 1         str.w r0, [r1, r2, lsl #2]: store 2  ldrd r0, r1, [r2]: load 3
strd r0, r1, [r2]: store 3        ldm r0, {r1, r2, r3, r4}: load 5     push {r4, r5, lr}: store 4
clz r0, r1: alu 1                 ubfx r0, r1, #2, #3: alu 1    movw r0, #1234: alu 1
bne .: branch 1 1                 b .: branch 2                 sdiv r0, r1, r2: mul 7
ldrsb r0, [r1, #1]: load 2        nop: other 1                  ldrsb.w r0, [r1, #500]: load 2
cbz r0, 1f: branch 1 1            b.w .: branch 2               beq.w .: branch 1 1
"""
M4 = """
mla r0, r1, r2, r3: mul 1         smull r0, r1, r2, r3: mul 1   smlal r0, r1, r2, r3: mul 1
smlad r0, r1, r2, r3: simd 1      smlabb r0, r1, r2, r3: simd 1 smuad r0, r1, r2: simd 1
smlald r0, r1, r2, r3: simd 1     sadd8 r0, r1, r2: simd 1      uqsub16 r0, r1, r2: simd 1
sxtb16 r0, r1: simd 1             uxtab r0, r1, r2: alu 1       qadd r0, r1, r2: simd 1
vadd.f32 s0, s1, s2: float 1      vmul.f32 s0, s1, s2: float 1  vmla.f32 s0, s1, s2: float 3
vfma.f32 s0, s1, s2: float 3      vdiv.f32 s0, s1, s2: float 14 vsqrt.f32 s0, s1: float 14
vcvt.f32.s32 s0, s1: float 1      vmov r0, s0: float 1          vmov r0, r1, d0: float 2
vldr s0, [r0]: load 2             vstr s0, [r0]: store 2        vldr d0, [r0]: load 3
vldm r0, {s0-s3}: load 5          vpush {d8, d9}: store 5       vcmp.f32 s0, s1: float 1
sel r0, r1, r2: simd 1            vabs.f32 s0, s1: float 1      usada8 r0, r1, r2, r3: simd 1
"""
M55 = """
vldrw.u32 q0, [r0]: load 2        vstrb.8 q0, [r0]: store 2     vadd.i32 q0, q1, q2: simd 2
vmladava.s8 r0, q0, q1: simd 2    vfma.f32 q0, q1, q2: simd 2   vadd.f32 s0, s1, s2: float 1
dls lr, r0: alu 1                 ldr r0, [r1, #4]: load 1      vldrb.s16 q0, [r0], #8: load 2
vldrw.u32 q0, [r0, q1]: load 2    smlad r0, r1, r2, r3: simd 1  b .: branch 1
"""
RV32 = """
add a0, a1, a2: alu 1             lw a0, 0(a1): load 2          sw a0, 4(a1): store 2
mul a0, a1, a2: mul 1             mulhu a0, a1, a2: mul 2       div a0, a1, a2: mul 37
beq a0, a1, .: branch 1 1         c.beqz a0, .: branch 1 1      j .: branch 2
jalr a0: branch 2                 ret: branch 2                 lbu a0, 0(a1): load 2
c.lwsp a0, 0(sp): load 2          c.swsp a0, 0(sp): store 2     c.mv a0, a1: alu 1
"""
TABLES = [
    ("m0", M0, "armv6s-m", ""),
    ("m3", M3, "armv7-m", ""),
    ("m4", M4, "armv7e-m", "-mfpu=fpv4-sp-d16"),
    ("m55", M55, "armv8.1-m.main+mve.fp+fp.dp", ""),
    ("rv32", RV32, "", ""),
]


def costs(core, lines, arch, fpu, tools, tmp_path):
    source, elf, binary = tmp_path / "x.s", tmp_path / "x.o", tmp_path / "x.bin"
    prefix = "riscv64-unknown-elf-" if core == "rv32" else "arm-none-eabi-"
    head = "" if core == "rv32" else ".syntax unified\n.thumb\n"
    source.write_text(head + "\n".join(lines) + "\n1:\n")
    options = ["-march=rv32imac"] if core == "rv32" else ["-mthumb", f"-march={arch}", *([fpu] if fpu else [])]
    subprocess.run([prefix + "as", *options, "-o", str(elf), str(source)], check=True)
    subprocess.run([prefix + "objcopy", "-O", "binary", "-j", ".text", str(elf), str(binary)], check=True)
    command = [str(tools / "costs"), core, str(binary)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [tuple(map(int, line.split())) for line in told.splitlines()]


@pytest.mark.parametrize("core,text,arch,fpu", TABLES, ids=[t[0] for t in TABLES])
def test_cycles_are_those_of_the_manual(core, text, arch, fpu, tools, tmp_path):
    wanted = re.findall(r"(\S.*?): (\w+ \d+(?: \d+)?)(?=\s|$)", text)
    # something without registers between them, so that none overlaps with another
    between = "c.nop" if core == "rv32" else "nop"
    lines = [line for instruction, _ in wanted for line in (instruction.strip(), between)]
    found = costs(core, lines, arch, fpu, tools, tmp_path)[::2]
    for (instruction, cost), (kind, cycles, refill, conditional, _) in zip(wanted, found, strict=True):
        name, number, *more = cost.split()
        assert (qemu_counters.CLASSES[kind], cycles, refill) == (name, int(number), int(more[0]) if more else 0), (
            instruction
        )
        assert conditional == bool(more)


def test_neighbours_overlap_on_an_m4(tools, tmp_path):
    """Loads behind loads take one cycle unless they wait for the address; a float result used at once costs one."""
    lines = ["ldr r0, [r1]", "ldr r2, [r3]", "ldr r4, [r2]", "nop"]
    lines += ["vadd.f32 s0, s1, s2", "vmul.f32 s3, s0, s0", "nop", "vadd.f32 s0, s1, s2", "vmul.f32 s3, s4, s5"]
    found = costs("m4", lines, "armv7e-m", "-mfpu=fpv4-sp-d16", tools, tmp_path)
    assert [cycles for _, cycles, *_ in found] == [2, 1, 2, 1, 1, 2, 1, 1, 1]


def test_marks_are_found(tools, tmp_path):
    numbers = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)
    thumb = costs("m0", [f".inst.n {0x4600 + (n & 7) * 9 + (n >> 3) * 0xC0:#x}" for n in numbers], "armv6s-m", "",
                  tools, tmp_path)  # fmt: skip
    rv32 = costs("rv32", [f"slti x0, x0, {n}" for n in numbers], "", "", tools, tmp_path)
    for found in (thumb, rv32):
        assert tuple(mark for *_, mark in found) == numbers
        assert all((kind, cycles) == (0, 1) for kind, cycles, *_ in found)
