"""The verbs about boards: devices, doctor, deploy and emulate."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ..boards import emulators
from ..errors import BadInput, RunFailed
from ..models.demo import model_path, read_model
from . import options


def devices(known: Annotated[bool, typer.Option("--known", help="list all known boards instead")] = False) -> None:
    """List the boards on USB."""
    if known:
        from ..boards import catalog

        catalog.show_known()
    else:
        from ..boards import usb_devices

        usb_devices.show(*usb_devices.attached())


def doctor(
    board: Annotated[
        str | None,
        typer.Option(
            "--board", "-b", metavar="PORT", help="check this board: serial port, or auto: the only board on USB"
        ),
    ] = None,
) -> None:
    """Check this machine or a board, and suggest remedies."""
    from ..boards import doctor as checks

    findings = checks.board(board) if board else checks.machine()
    checks.show(findings)
    if any(finding.good is False for finding in findings):
        raise RunFailed("problems found: see the lines with NO")


def deploy(board: options.PortOption = "auto", model: options.ModelOption = "demo") -> None:
    """Copy the device package and a model to a board."""
    from ..boards import deploy as deploying
    from ..boards.transport import SerialBoard
    from ..progress import Progress

    data = read_model(model_path(model))
    if board in emulators.NAMES:
        raise BadInput(f"{board} is emulated, and gets its package when it starts: use collect or emulate")
    device = emulators.serial_port(board)
    link = SerialBoard(device)
    try:
        place = deploying.replace(link, data, Progress())
    finally:
        link.close()
    print(f"{device}: package in place, model at {place}")


def emulate(
    board: Annotated[
        str,
        typer.Argument(
            metavar="BOARD",
            help=", ".join(emulators.EMULATED),
            autocompletion=options.completion(lambda: list(emulators.EMULATED)),
        ),
    ],
    model: options.ModelOption = "demo",
    bare: Annotated[bool, typer.Option("--bare", help="start with empty flash")] = False,
) -> None:
    """Start an emulated board, and keep it running until Ctrl-C.

    Device package and model are in its flash."""
    if board not in emulators.EMULATED:
        raise BadInput(f"no emulated board '{board}': there are {', '.join(emulators.EMULATED)}")

    from ..boards import deploy as deploying

    spec = emulators.EMULATED[board]
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.romfs"
        if not bare:
            image.write_bytes(deploying.romfs_image(deploying.package_of(spec), read_model(model_path(model))))
        with emulators.Emulator(board, None if bare else image) as emulator:
            try:
                print(f"{spec.description} at {emulator.device}; Ctrl-C stops it", flush=True)
                print(f"  mpremote connect {emulator.device} repl", flush=True)
                emulator.wait()
            except KeyboardInterrupt:
                print("stopped")
