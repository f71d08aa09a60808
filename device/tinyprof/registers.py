"""Event counters by the manuals. Pure data, loaded when events are asked for (events.py).

A bank: (name, where, space, base, bits, ends, setup, undo, selector, counter, chain, events, manual).

where: words, one of which is the name of the core (CORES) or part of the name of the machine
space: 0 memory, 1 registers by number (RISC-V CSRs, Xtensa's external registers), 2 clocks of the system
bits: of a counter
ends: 0: the counter wraps; 1: it stays at its maximum until it is written
setup: (address, value, how) in their order; how: 1 keeps the bits that are set there, 0 does not
undo: (address, value) at the end
selector, counter: offsets from base; None: each event has its own counter, whose offset is the event's number
chain: (selector, event, counter) of a second counter that counts the overflows of the first, or None
events: names, each with its number
manual: the source"""

# part number in CPUID (0xE000ED00), core
CORES = (0xC20, "m0", 0xC60, "m0+", 0xC23, "m3", 0xC24, "m4", 0xC27, "m7", 0xD21, "m33", 0xD22, "m55", 0xD23, "m85")

_DEMCR = (0xE000EDFC, 1 << 24, 1)  # TRCENA

# fmt: off
BANKS = (
    # LAR: the M7 keeps it locked; CTRL: CYCCNTENA, and CPI, EXC, SLEEP, LSU, FOLD EVTENA
    ("dwt", "m3 m4 m7 m33", 0, 0xE0001000, 8, 0,
     (_DEMCR, (0xE0001FB0, 0xC5ACCE55, 0), (0xE0001000, 0x3E0001, 1)), (), None, None, None,
     "cpi 8 exception 0xC sleep 0x10 lsu 0x14 fold 0x18",
     "Armv7-M ARM (DDI 0403E) C1.8; Armv8-M ARM (DDI 0553), DWT"),
    # CNTENSET and CNTENCLR: counters 0 and 1; CTRL: E
    ("pmu", "m55 m85", 0, 0xE0003000, 16, 0,
     (_DEMCR, (0xE0003C00, 3, 0), (0xE0003E04, 1, 1)), ((0xE0003C20, 3),), 0x400, 0, (0x404, 0x1E, 4),
     "instr 8 load 6 store 7 branch 0x21 branch-miss 0x22 mem-access 0x13 stall 0x3C stall-front 0x23 "
     "stall-back 0x24 l1i-access 0x14 l1i-refill 1 l1d-access 4 l1d-refill 3 bus-access 0x19 "
     "mve-instr 0x200 mve-stall 0x2CC",
     "Armv8-M ARM (DDI 0553), Performance Monitoring Extension; Cortex-M55 TRM (101051), PMU events"),
    ("mhpm", "virt", 1, 0, 32, 0,
     ((0x320, 0, 0),), ((0x323, 0),), 0x323, 0xB03, None,
     "instr 2",
     "RISC-V privileged 1.12, 3.1.10; QEMU's virt: riscv,event-to-mhpmevent in its device tree"),
    ("minstret", "RISCV ESP32P4", 1, 0, 32, 0,
     ((0x320, 0, 0),), (), None, None, None,
     "cycles 0xB00 instr 0xB02",
     "RISC-V privileged 1.12, 3.1.10; RP2350 datasheet, Hazard3: mhpmcounter3 and up are 0"),
    ("mpccr", "ESP32C3 ESP32C6 ESP32H2", 1, 0, 32, 0,
     (), ((0x7E0, 1),), 0x7E0, 0x7E2, None,
     "cycles 1 instr 2 load-hazard 4 jump-hazard 8 idle 0x10 load 0x20 store 0x40 jump 0x80 branch 0x100 "
     "branch-taken 0x200 compressed 0x400",
     "ESP32-C3 and ESP32-C6 TRM, CPU registers: mpcer, mpccr"),
    # PGM: PMEN. A number is PMCTRL: TRACELEVEL 15, SELECT << 8, MASK << 16
    ("perfmon", "xtensawin", 1, 0x101000, 32, 0,
     ((0x101000, 1, 0),), ((0x101000, 0),), 0x100, 0x80, None,
     "cycles 0x100F0 instr 0x8DFF02F0 branch-taken 0x1002F0 stall-data 0x1FE03F0 stall-dcache 0x803F0 "
     "stall-instr 0x1FF04F0 stall-icache 0x104F0 bubbles 0x1FD06F0 register-wait 0x1006F0 "
     "icache-miss 0x208F0 load 0xF0AF0 load-miss 0x20AF0 store 0xF0BF0",
     "Xtensa Debug Guide, performance monitor; ESP-IDF, xtensa-debug-module.h and xt_perf_consts.h"),
    ("xip", "RP2040", 0, 0x14000000, 32, 1,
     (), (), None, None, None,
     "xip-hit 0xC xip-access 0x10",
     "RP2040 datasheet, XIP: CTR_HIT, CTR_ACC"),
    ("xip", "RP2350", 0, 0x400C8000, 32, 1,
     (), (), None, None, None,
     "xip-hit 0xC xip-access 0x10",
     "RP2350 datasheet, XIP: CTR_HIT, CTR_ACC"),
    ("busctrl", "RP2040", 0, 0x40030000, 24, 1,
     (), (), 0xC, 8, None,
     "apb-contested 0 apb 1 fastperi-contested 2 fastperi 3 sram5-contested 4 sram5 5 sram4-contested 6 "
     "sram4 7 sram3-contested 8 sram3 9 sram2-contested 0xA sram2 0xB sram1-contested 0xC sram1 0xD "
     "sram0-contested 0xE sram0 0xF xip-contested 0x10 xip 0x11 rom-contested 0x12 rom 0x13",
     "RP2040 datasheet, BUSCTRL: PERFCTR0, PERFSEL0"),
    # PERFCTR_EN
    ("busctrl", "RP2350", 0, 0x40068000, 24, 1,
     ((0x40068008, 1, 0),), ((0x40068008, 0),), 0x10, 0xC, None,
     "stall-xip0 0x3D xip0-contested 0x3E xip0 0x3F stall-xip1 0x39 xip1-contested 0x3A xip1 0x3B "
     "stall-sram0 0x35 sram0-contested 0x36 sram0 0x37 stall-sram4 0x25 sram4-contested 0x26 sram4 0x27 "
     "sram8 0x17 sram9 0x13 apb 0xB rom 0x43",
     "RP2350 datasheet, BUSCTRL: PERFCTR_EN, PERFCTR0, PERFSEL0; stall: STALL_DOWNSTREAM"),
    # CR: HITMEN
    ("icache", "STM32H5 STM32U5 STM32L5", 0, 0x40030400, 32, 0,
     ((0x40030400, 0x10000, 1),), (), None, None, None,
     "icache-hit 0x10",
     "RM0481 (STM32H5), ICACHE: CR, HMONR"),
    # ICACHECNF: CACHEEN, CACHEPROFEN
    ("nvmc", "NRF52", 0, 0x4001E000, 32, 0,
     ((0x4001E540, 0x101, 1),), (), None, None, None,
     "icache-hit 0x548 icache-miss 0x54C",
     "nRF52840 PS, NVMC: ICACHECNF, IHIT, IMISS"),
    # MEN: MENABLE
    ("cmcc", "SAMD51 SAME5", 0, 0x41006000, 32, 0,
     ((0x4100602C, 1, 0),), ((0x4100602C, 0),), 0x28, 0x34, None,
     "cycles 0 icache-hit 1 dcache-hit 2",
     "SAM D5x/E5x datasheet (DS60001507), CMCC: MCFG, MEN, MSR"),
    ("posix", "unix", 2, 0, 32, 0,
     (), (), None, None, None,
     "cpu-ns 1",
     "POSIX.1 clock_gettime, CLOCK_PROCESS_CPUTIME_ID"),
)
# fmt: on

# Caches that one write empties: where, address, value. Arm's caches are emptied by address (cold_start.py).
FLUSHES = (
    ("RP2040", 0x14000004, 1),  # XIP FLUSH
    ("STM32H5 STM32U5 STM32L5", 0x40030400, 2),  # ICACHE_CR: CACHEINV
)
