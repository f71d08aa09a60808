"""Native modules for stock firmware, and the packages of them that mip installs. Imports boards, source, apt, shell.

Unlike the rest it needs packages of the venv: MicroPython's linker of native modules imports pyelftools and ar.
"""

import importlib.util
import json
import os
import shutil
import sys

from .apt import ARM, RISCV
from .boards import MPY_CROSS_PROGRAM, build_files, digest_of, is_current, prepare
from .shell import BUILD, REPO, fail, fail_with_log, output, run, sha256
from .source import SOURCE

# Architectures of .mpy files, and the prefix of the compiler for each. That of xtensawin is Espressif's.
MODULES = {
    "x64": "",
    "armv6m": ARM,
    "armv7m": ARM,
    "armv7emsp": ARM,
    "armv7emdp": ARM,
    "rv32imc": RISCV,
    "xtensa": "xtensa-lx106-elf-",
    "xtensawin": "xtensa-esp32-elf-",
}
MODULE_FOLDER = REPO / "host/tinyprof_bridge/modules"


def modules(names: list[str]) -> None:
    """Builds mpy-cross and the native modules of the named architectures."""
    if missing := [name for name in ("elftools", "ar") if importlib.util.find_spec(name) is None]:
        fail(f"MicroPython's linker needs the Python package {missing[0]}; run `make modules`, which uses .venv", 2)
    info, env = prepare()
    MODULE_FOLDER.mkdir(exist_ok=True)
    for name in names:
        build_module(name, info, env)
        mip_package(name)


def mip_package(arch: str) -> None:
    """Makes the folder that `mpremote mip install` installs from: the module, the compiled package, package.json."""
    folder = BUILD / "mip" / arch
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tinyprof").mkdir(parents=True)
    shutil.copy(MODULE_FOLDER / f"{arch}.mpy", folder / "_tinyprof.mpy")
    for path in sorted((REPO / "device/tinyprof").glob("*.py")):
        compiled = folder / "tinyprof" / f"{path.stem}.mpy"
        mpy_cross = [str(MPY_CROSS_PROGRAM), "-s", f"tinyprof/{path.name}", "-o", str(compiled)]
        if output([*mpy_cross, str(path)]) is None:
            fail(f"mpy-cross cannot compile {path}; run {' '.join(mpy_cross)} {path} to see why")
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.mpy"))
    package = {"urls": [[path, path] for path in paths], "version": "0.1.0"}
    (folder / "package.json").write_text(json.dumps(package, indent=1) + "\n")


def build_module(arch: str, info: dict[str, str], env: dict[str, str]) -> None:
    """Builds one native module, unless the existing one has the same inputs."""
    compiler = output([MODULES[arch] + "gcc", "--version"])
    if compiler is None:
        remedy = {"xtensa": "run `python3 firmware_builds/build tools xtensa`", "xtensawin": "install ESP-IDF"}.get(
            arch, "run `make tools`"
        )
        fail(f"native module for {arch}: {MODULES[arch]}gcc is missing; {remedy}", 2)
    objects, folder = BUILD / "obj" / f"module-{arch}", REPO / "native_modules"
    result, record = MODULE_FOLDER / f"{arch}.mpy", BUILD / "obj" / f"module-{arch}.json"
    # the module contains this path: a relative one is the same in every checkout
    command = ["make", "-C", str(folder), f"MPY_DIR={SOURCE}", f"ARCH={arch}"]
    command += [f"BUILD={os.path.relpath(objects, folder)}"]
    command += [f"MPY_CROSS={MPY_CROSS_PROGRAM}", f"PYTHON={sys.executable}"]
    how = [*command[:-1], compiler, json.dumps(info), *env["TINYPROF_WITHOUT"].split()]
    inputs = digest_of(how, [*build_files("native_modules"), folder / "Makefile"])
    if info["origin"] != "MICROPY_DIR" and is_current(result, record, inputs):
        return
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    log = BUILD / "log" / f"module-{arch}.txt"
    log.unlink(missing_ok=True)
    if not run(f"building the native module for {arch}", command, log, env):
        fail_with_log(f"building the native module for {arch} failed", log)
    (folder / "_tinyprof.mpy").replace(result)
    record.write_text(json.dumps({"inputs": inputs, "sha256": sha256(result)}) + "\n")
