"""The verbs about energy: power calibrate, fit, battery and sweep."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import options, show

if TYPE_CHECKING:
    from ..records.runs import Run


def calibrate(
    sensor: Annotated[
        str, typer.Option("--power", metavar="SENSOR", help="e.g. ina226:id=0,scl=5,sda=4,shunt=0.1 (docs/power.md)")
    ],
    amperes: Annotated[float, typer.Option(metavar="A", help="the current, by an accurate instrument")],
    board: options.PortOption = "auto",
    timeout: Annotated[float, options.timeout_option()] = 120,
) -> None:
    """Correct the shunt of a sensor with a known current.

    All later runs with that sensor use the corrected value."""
    from ..boards import emulators
    from ..energy import sensors, shunt_calibration
    from ..measure.collect import prepare
    from ..progress import Progress

    wanted = sensors.parse(sensor)
    if board in emulators.NAMES:
        raise BadInput(f"--power needs a real board: {board} draws no current")
    with prepare(board, None, Progress()) as place:
        found = shunt_calibration.calibrate(place.transport, wanted, amperes, timeout)
    off = 100 * (found.read / found.amperes - 1)
    print(
        f"reads {found.read:.5g} A instead of {found.amperes:.5g} A ({off:+.2f} %): shunt set to {found.uohm} microohms"
    )
    print(f"saved in {shunt_calibration.store()}")


def fit(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="saved runs with energy")],
    on: Annotated[
        str,
        typer.Option(
            metavar="NAME,…", help="what to fit: seconds, cycles, macs or bytes; cycles need runs at several clocks"
        ),
    ] = "seconds,macs,bytes",
    o: Annotated[str, options.choice("md", "json")] = "md",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="write the fit, for optimize --energy")] = None,
) -> None:
    """Fit joules per second, cycle, MAC and byte to many runs."""
    from ..energy import regression
    from ..energy.logger_csv import load_run
    from ..models.convert import check_out
    from ..report.files import write_whole

    if out:
        check_out(out, *files)
    rows, left_out = regression.rows([load_run(f) for f in files])
    for line in left_out:
        print(line, file=sys.stderr)
    found = regression.fit(rows, tuple(on.split(",")))
    if out:
        write_whole(out, regression.as_json(found).encode())
    print(regression.markdown(found) if o == "md" else regression.as_json(found))


def battery(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a saved run with energy")],
    test: Annotated[str, typer.Option(metavar="TEST", help="test that the board repeats, e.g. tg32")],
    an_hour: Annotated[float, typer.Option("--an-hour", metavar="N", help="times per hour")],
    watt_hours: Annotated[float, typer.Option("--watt-hours", metavar="WH", help="energy of the battery: V × Ah")],
) -> None:
    """Estimate how long a battery lasts.

    The board runs a test at regular intervals, and sleeps in between."""
    options.positive(an_hour=an_hour, watt_hours=watt_hours)

    from ..energy import run_energy
    from ..energy.logger_csv import load_run

    run = load_run(file)
    energy = run_energy.energy(run)
    if energy is None or energy.findings:
        raise BadInput(f"{file} has no valid energy{': ' + '; '.join(energy.findings) if energy else ''}")
    frame = run_energy.figures(run, energy).set_index("test")
    if test not in frame.index:
        raise BadInput(f"no energy of '{test}' in {file}: there is {', '.join(frame.index)}")
    tokens = run.tests[test].tokens if test in run.tests else 1
    joules, seconds = (float(frame[name].to_dict()[test]) * tokens for name in ("joules", "seconds"))
    if an_hour * seconds > 3600:
        raise BadInput(f"{test} takes {seconds:.3g} s: an hour has no room for {an_hour:g} of them")
    hours = run_energy.battery_hours(joules, seconds, an_hour, energy.idle, watt_hours)
    print(f"{hours:,.1f} hours, {hours / 24:,.1f} days: {test} takes {joules:.4g} J, {seconds:.4g} s, {an_hour:g}/h;")
    print(f"asleep the board draws {energy.idle * 1e3:.4g} mW. Not included: self-discharge, losses of a converter.")


def sweep(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="saved runs at several clocks")],
    bound: Annotated[float | None, typer.Option(metavar="SECONDS", help="longest time per token")] = None,
) -> None:
    """Show latency and energy of runs at each clock, and the best."""
    from ..energy.logger_csv import load_run

    show_sweep([load_run(f) for f in files], bound)


def show_sweep(runs: "list[Run]", bound: float | None) -> None:
    """Prints the figures of runs at several clocks, and the best of them. bound: seconds per token."""
    from ..measure import clock_sweep
    from ..report.run_report import SWEEP_COLUMNS
    from ..tables import rich_table

    frame = clock_sweep.figures(runs)
    console = show.console()
    if frame.empty:
        raise BadInput("no run has a known clock")
    console.print(rich_table(frame, SWEEP_COLUMNS, "by clock", console.width))
    what = f"least energy within {bound:g} s per token" if bound else "least energy × delay (time, without a sensor)"
    console.print(rich_table(clock_sweep.best(frame, bound), SWEEP_COLUMNS, what, console.width))
