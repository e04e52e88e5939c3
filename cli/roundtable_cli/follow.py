"""Following a run by the API: what has changed is asked for, and the answer waits until something has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from roundtable_cli.client import Client
from roundtable_cli.errors import CliError, Exit
from roundtable_cli.output import clock, err, json_print, out, printable, say

WAIT_SECONDS = 25
AWAY_SECONDS = 120  # for so long the platform may be away meanwhile
_LEAST_SECONDS = 0.5  # between two looks at a run that changes all the time
_ENDS = {"FINISHED": Exit.OK, "FAILED": Exit.RUN_FAILED, "KILLED": Exit.RUN_STOPPED}


def run_watch(client: Client, run_id: int, *, as_json: bool) -> int:
    """Show a run until it has ended and return the exit code that tells how.

    On a terminal there is a bar of its rounds; elsewhere a line for each change; with ``as_json`` a line of JSON for
    each change.
    """
    shown = _Shown()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=as_json or not out.is_terminal) as progress:
        bar = progress.add_task("rounds", total=None)
        for status in _changes(client, run_id):
            run = status["run"]
            if as_json:
                json_print(status, compact=True)
            else:
                for line in shown.news(status):
                    progress.console.print(printable(line), markup=False)
                progress.update(
                    bar,
                    description=f"{run['state']} rounds",
                    completed=run["rounds_done"],
                    total=run["total_rounds"] or None,
                )
            if run["ended"]:
                return int(_ENDS.get(run["state"], Exit.UNEXPECTED))
    raise AssertionError("changes end with the run")


def log_follow(client: Client, run_id: int, wanted: dict[str, Any], cursor: int, *, as_json: bool) -> None:
    """Print the lines that come after ``cursor`` until the run is over and all of them are printed."""
    away = _Patience()
    while True:
        try:
            page = client.get(f"/runs/{run_id}/logs", **wanted, after=cursor, wait=WAIT_SECONDS)
        except CliError as error:
            away.wait(error)
            continue
        away.over()
        for line in page["lines"]:
            log_print(line, as_json=as_json)
        cursor = page["cursor"]
        if page["ended"] and not page["more"] and not page["lines"]:
            return


def log_print(line: dict[str, Any], *, as_json: bool) -> None:
    """Print one log line."""
    if as_json:
        json_print(line, compact=True)
    else:
        say(f"{clock(line['time'])} {line['reporter']} {line['line']}")


class _Shown:
    """What of a run was printed already."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def news(self, status: dict[str, Any]) -> Iterator[str]:
        """Yield a line for everything that is not as it was."""
        run = status["run"]
        for stage in status["stages"]:
            if stage["state"] != "PENDING":
                yield from self._line(f"stage {stage['name']}", stage["state"], stage["reason"])
        for part in status["devices"]:
            if part["status"] != "IDLE":
                yield from self._line(f"device {part['name']}", part["status"], part["reason"])
        if run["total_rounds"]:
            yield from self._line("rounds", f"{run['rounds_done']} of {run['total_rounds']}", "")
        yield from self._line(f"run {run['name']}", run["state"], run["reason"])

    def _line(self, what: str, state: str, reason: str) -> Iterator[str]:
        if self._last.get(what) != state:
            self._last[what] = state
            yield f"{what}: {state}{f' - {reason}' if reason else ''}"


class _Patience:
    """Waits while the platform is away, and gives up after a while."""

    def __init__(self) -> None:
        self._since: float | None = None

    def wait(self, error: CliError) -> None:
        """Wait a moment.

        Raises:
            CliError: ``error``, where it is another one or the platform is away for too long.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if error.exit_code == Exit.UNREACHABLE:
                err.print("The platform is away; waiting for it.", markup=False)
        if error.exit_code != Exit.UNREACHABLE or now - self._since > AWAY_SECONDS:
            raise error
        time.sleep(2)

    def over(self) -> None:
        """Note that the platform answers."""
        self._since = None


def _changes(client: Client, run_id: int) -> Iterator[dict[str, Any]]:
    """Yield the status of a run at once and after each change, the last one when it has ended."""
    cursor = -1
    away = _Patience()
    while True:
        begun = time.monotonic()
        try:
            status: dict[str, Any] = client.get(f"/runs/{run_id}/status", after=cursor, wait=WAIT_SECONDS)
        except CliError as error:
            away.wait(error)
            continue
        away.over()
        if status["cursor"] != cursor:
            cursor = status["cursor"]
            yield status
            if status["run"]["ended"]:
                return
        time.sleep(max(0.0, _LEAST_SECONDS - (time.monotonic() - begun)))
