"""tinyprof-bridge: the verbs, and how the command line ends. What a verb does is in the file of its name."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import BadInput, RunFailed, plain
from . import bench, boards, collect, compare, convert, explain, inspect, optimize, options, power, quality, report

# typer has its own copy of click since 0.16, and needs click before; the base of its errors is the same class in both
_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    cls=options.Group,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)


def _verb(function: Callable[..., None], epilog: str | None = None, to: typer.Typer = app) -> None:
    to.command(cls=options.Command, epilog=epilog)(function)


def _help_without_verb(context: typer.Context) -> None:
    """Prints the whole help and ends with 2 where a verb is missing."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise SystemExit(2)


def _group(name: str, about: str, *verbs: Callable[..., None]) -> None:
    group = typer.Typer(cls=options.Group, callback=_help_without_verb, invoke_without_command=True, help=about)
    for verb in verbs:
        _verb(verb, to=group)
    app.add_typer(group, name=name)


_verb(collect.demo)
_verb(collect.collect, collect.EXAMPLES)
_verb(report.report, report.EXAMPLES)
_verb(explain.explain, explain.EXAMPLES)
_verb(compare.compare, compare.EXAMPLES)
_verb(optimize.optimize, optimize.EXAMPLES)
_verb(convert.convert, convert.EXAMPLES)
_verb(inspect.inspect, inspect.EXAMPLES)
_verb(quality.quality, quality.EXAMPLES)
_verb(boards.devices)
_verb(boards.doctor)
_verb(boards.deploy)
_verb(boards.emulate)
_group(
    "power",
    "Calibrate sensors, and evaluate the energy of many runs.",
    power.calibrate,
    power.fit,
    power.battery,
    power.sweep,
)
_group("bench", "Measure parts of the device code alone.", bench.kernels)
app.command(hidden=True)(collect.collect_cell)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    """Profile quantized language models on microcontrollers."""
    if version:
        print(f"tinyprof-bridge {__version__}")
        raise typer.Exit
    _help_without_verb(context)


def _fail(code: int, message: str) -> NoReturn:
    """Ends with one line on standard error, whatever is in the message."""
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"tinyprof-bridge: {plain(' '.join(message.split()))}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _standard_streams() -> None:
    """Makes printing safe: where a stream is closed, and in an encoding that lacks characters."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> None:
    """Forgets what standard output cannot take, else the interpreter tries again at its end."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The command line. Exit codes: 0, 1 the run failed, 2 bad input."""
    _standard_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal must not leave an emulator
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # left so by __main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # without its standalone mode typer returns the exit code of an interrupt
        if app(standalone_mode=False):
            _fail(1, "interrupted")
        sys.stdout.flush()
    except _UsageError as error:
        _fail(2, f"{error.format_message()} (see --help)")
    except BadInput as error:
        _fail(2, str(error))
    except RunFailed as error:
        _fail(1, str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail(1, "interrupted")
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        _fail(1, f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
