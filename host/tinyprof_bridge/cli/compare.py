"""The verb compare."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import RunFailed
from . import options, show

EXAMPLES = options.examples(
    "compare old.jsonl new.jsonl",
    "compare old.jsonl new.jsonl --fail-on 5%   # in a build",
    "compare results/*.jsonl --by types",
)


def compare(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="saved runs; the first is the baseline")],
    by: Annotated[
        str, typer.Option(metavar="FIELD,…", help="group runs by recorded fields, e.g. types or board,batch")
    ] = "",
    allow: Annotated[bool, typer.Option("--allow", help="compare incompatible runs, with a warning")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="exit with 1 if a test is significantly slower by more than this"),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="write a page of all tables, in one file")] = None,
    o: Annotated[str, options.choice("table", "md", "csv", "json")] = "table",
) -> None:
    """Compare runs, and test whether the changes are significant."""
    from ..analysis import compare as comparing

    limit = comparing.limit(fail_on) if fail_on is not None else None
    result = comparing.compare(files, by, allow)
    slower = comparing.regressions(result, limit) if limit is not None else []
    if html is not None:
        from ..report import files as writing

        writing.write_comparison(result, html)
        print(html)
    match o if html is None else "":
        case "table":
            comparing.terminal(result, show.console())
        case "md":
            print(comparing.markdown(result), end="")
        case "csv":
            print(comparing.csv(result), end="")
        case "json":
            print(comparing.as_json(result))
    if slower:
        raise RunFailed(f"slower by more than {fail_on}: {'; '.join(slower)}")
