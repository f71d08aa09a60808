"""Options that several verbs share, the checks of their values, and the layout of a verb's help."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import BadInput

MOST = 1_000_000  # the greatest number in a list of numbers


class Command(TyperCommand):
    """A verb whose help lists its options in groups; typer alone does so only with rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                title = getattr(param, "rich_help_panel", None) or "Options"
                if param.param_type_name == "argument":
                    title, record = "Arguments", (str(param.metavar), record[1])
                groups.setdefault(title, []).append(record)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class Group(TyperGroup):
    """Verbs whose help needs no pydantic: typer loads it for a flag that is None, as --help and --show-completion are
    by default."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        for param in params:
            if param.is_flag and param.default is None:
                param.default = False
        return params


def examples(*commands: str) -> str:
    """The end of a verb's help: commands to try, as arguments of tinyprof-bridge."""
    # click keeps the line breaks of a paragraph that starts with \b
    return "\n".join(("\b", "Examples:", *(f"  tinyprof-bridge {command}" for command in commands)))


def choice(*names: str, flag: str = "-o", help: str = "output format", group: str | None = None) -> Any:
    """An option that takes one of a few names; the shell completes them. Another name raises BadInput."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names:
            raise BadInput(f"{flag} takes {', '.join(names[:-1])} or {names[-1]}, not '{value}'")
        return value

    return typer.Option(
        flag,
        metavar="|".join(names),
        help=help,
        callback=check,
        autocompletion=completion(lambda: list(names)),
        rich_help_panel=group,
    )


def completion(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Completes the last part of a comma-separated list."""

    def complete(incomplete: str) -> list[str]:
        before, comma, part = incomplete.rpartition(",")
        return [before + comma + name for name in names() if name.startswith(part)]

    return complete


def _boards() -> list[str]:
    from ..boards import emulators

    return [*emulators.NAMES, "auto"]


BoardOption = Annotated[
    str,
    typer.Option(
        "--board",
        "-b",
        metavar="BOARD",
        help="emulated board (`emulate --help` lists them), unix, serial port, or auto: the only board on USB",
        autocompletion=completion(_boards),
    ),
]
PortOption = Annotated[
    str,
    typer.Option(
        "--board", "-b", metavar="PORT", help="serial port such as /dev/ttyACM0, or auto: the only board on USB"
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="FILE", help="a saved run (results/….jsonl)")]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", metavar="FILE", help="GGUF file, or demo: the model in this package")
]


def timeout_option(group: str | None = None) -> Any:
    return typer.Option(
        metavar="SECONDS",
        help="give up on a board that is silent for this long",
        callback=seconds,
        rich_help_panel=group,
    )


def batch_option(group: str | None = None) -> Any:
    return typer.Option(metavar="N", help="prefill takes this many tokens at once", rich_help_panel=group)


def context_option(group: str | None = None) -> Any:
    return typer.Option("-c", metavar="N", help="positions in the KV cache", rich_help_panel=group)


def kv_option(group: str | None = None) -> Any:
    help_ = "type of the KV cache (default: f32, on the fixed-point path q8)"
    return choice("f32", "f16", "q8", flag="--kv", help=help_, group=group)


def activations_option(group: str | None = None) -> Any:
    help_ = "activations that quantized weights are multiplied with; int16 takes twice the products"
    return choice("int8", "int16", flag="--activations", help=help_, group=group)


def numbers(option: str, text: str, least: int = 1) -> tuple[int, ...]:
    """The numbers of a comma-separated list, in order. Raises BadInput for other text, a number below least or above
    a million, or one that is given twice."""
    try:
        values = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(f"{option} takes comma-separated whole numbers, not '{text}'") from None
    if any(v < least or v > MOST for v in values):
        raise BadInput(f"{option} takes numbers from {least} to {MOST}, not '{text}'")
    if len(set(values)) < len(values):
        raise BadInput(f"{option} takes each number once, not '{text}'; use -r for repetitions")
    return values


def seconds(timeout: float) -> float:
    """The timeout itself. Raises BadInput unless it is more than 0 and at most a day."""
    if not 0 < timeout <= 86400:  # NaN fails too
        raise BadInput(f"--timeout takes seconds, more than 0 and at most 86400, not {timeout:g}")
    return timeout


def positive(**values: float | None) -> None:
    """Raises BadInput for an option (in Python's spelling) whose value is given and not above 0."""
    for name, value in values.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
            raise BadInput(f"{flag} must be positive, not {value:g}")


def bits(activations: str) -> int:
    """Bits of int8 or int16."""
    return int(activations.removeprefix("int"))
