"""What the commands print: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Print at most so many.")]
SearchOption = Annotated[str, typer.Option("--search", "-q", help="Words that each row has to contain.")]

STATE_STYLES = {
    "RUNNING": "blue",
    "TRAINING": "blue",
    "BUSY": "blue",
    "ACTIVE": "blue",
    "STARTING": "yellow",
    "STOPPING": "yellow",
    "INITIALIZING": "yellow",
    "DISPATCHED": "yellow",
    "FINISHED": "green",
    "DONE": "green",
    "IDLE": "green",
    "FAILED": "red",
    "KILLED": "magenta",
}

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def json_print(value: Any, *, compact: bool = False) -> None:
    """Print JSON: indented, or on one line of its own."""
    sys.stdout.write(json.dumps(value, indent=None if compact else 2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print a line for people."""
    out.print(Text(printable(text)))


def warn(text: str) -> None:
    """Print a line on standard error."""
    err.print(Text(printable(text, newlines=True)))


def table_print(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table, or the sentence ``empty``. States are coloured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
        count += 1
    out.print(table if count else Text(empty))


def facts_print(facts: Sequence[tuple[str, Any]]) -> None:
    """Print names with their values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, _cell(value))
    out.print(table)


def printable(text: str, *, newlines: bool = False) -> str:
    """Return text that cannot move the cursor, ring or colour: names and log lines come from anywhere."""
    return "".join(
        character if character.isprintable() or character == "\t" or (newlines and character == "\n") else "\ufffd"
        for character in text
    )


def moment(text: str | None) -> str:
    """Return a time of the API as people read it, in their own zone."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S") if text else ""


def clock(seconds: float) -> str:
    """Return seconds since the epoch as the time of day in UTC, for log lines."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S.%f")[:-3]


def size(count: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("GiB ends the loop")


@contextmanager
def transfer(label: str, total: int | None) -> Iterator[Any]:
    """Show a bar on standard error while bytes go; yields what to tell how many went."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(printable(label), total=total)
        yield lambda count: progress.advance(task, count)


def file_write(path: Path, pieces: Iterator[bytes], progress: Any) -> None:
    """Write pieces to a file; one that breaks off leaves nothing in its place."""
    work_path = path.with_name(f".{path.name}.part")
    try:
        with work_path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                progress(len(piece))
        work_path.replace(path)
    finally:
        work_path.unlink(missing_ok=True)


def _cell(value: Any) -> Text:
    text = "" if value is None else printable(str(value))
    return Text(text, style=STATE_STYLES.get(text, ""))
