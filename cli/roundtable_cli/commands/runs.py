"""Runs."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from roundtable_cli.commands.configurations import SetOption, overrides_read
from roundtable_cli.errors import CliError, Exit
from roundtable_cli.follow import log_follow, log_print, run_watch
from roundtable_cli.lookup import connect, find_id
from roundtable_cli.output import (
    JsonOption,
    LimitOption,
    SearchOption,
    facts_print,
    file_write,
    json_print,
    moment,
    say,
    table_print,
    transfer,
    warn,
)

app = typer.Typer(no_args_is_help=True, help="Runs: create, start, stop, watch, and take along.")
RunArgument = Annotated[str, typer.Argument(help="Id or name.")]


class State(enum.StrEnum):
    """States of a run."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Format(enum.StrEnum):
    """What a run is exported as."""

    JSON = "json"
    CSV = "csv"
    TENSORBOARD = "tensorboard"


class Level(enum.StrEnum):
    """The least level of log lines."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@app.command("list")
def run_list(
    project: Annotated[str, typer.Option(help="Only those of this project (id or name).")] = "",
    state: Annotated[State | None, typer.Option(help="Only those in this state.", case_sensitive=False)] = None,
    search: SearchOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first."""
    client = connect()
    project_id = find_id(client, "/projects", project, "project") if project else None
    rows = client.items("/runs", limit=limit, q=search, project_id=project_id, state=state.value if state else "")
    if as_json:
        json_print(rows)
        return
    table_print(
        ["ID", "NAME", "STATE", "ROUNDS", "BEST", "DEVICES", "CONFIGURATION", "CREATED"],
        [
            (
                row["id"],
                row["name"],
                row["state"],
                f"{row['rounds_done']}/{row['total_rounds']}",
                _best(row),
                row["device_count"],
                row["configuration_name"],
                moment(row["created_at"]),
            )
            for row in rows
        ],
        empty="No runs. Create one: roundtable runs create --project P --configuration C --device D --start",
    )


@app.command("show")
def run_show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show a run and what its devices do."""
    client = connect()
    row = client.get(f"/runs/{find_id(client, '/runs', run, 'run')}")
    if as_json:
        json_print(row)
        return
    facts_print(
        [
            ("Run", f"{row['name']} ({row['id']})"),
            ("State", row["state"]),
            ("Since", moment(row["since"])),
            ("Reason", row["reason"]),
            ("Rounds", f"{row['rounds_done']} of {row['total_rounds']}"),
            ("Best", _best(row)),
            ("Configuration", row["configuration_name"]),
            ("Backend", row["backend"]),
        ]
    )
    table_print(
        ["DEVICE", "NAME", "STATUS", "REASON"],
        [(part["edge_id"], part["name"], part["status"], part["reason"]) for part in row["devices"]],
        empty="It has no devices.",
    )


@app.command("create")
def run_create(
    project: Annotated[str, typer.Option(help="Id or name.")],
    configuration: Annotated[str, typer.Option(help="Id or name.")],
    device: Annotated[list[str] | None, typer.Option(help="Id or name; may come again.")] = None,
    idle: Annotated[bool, typer.Option("--all-idle", help="Use every idle device of the project.")] = False,
    values: SetOption = None,
    name: Annotated[str, typer.Option(help="Two words are made up where it is empty.")] = "",
    backend: Annotated[str, typer.Option(help="process, docker or swarm; the platform's own choice if empty.")] = "",
    start: Annotated[bool, typer.Option("--start", help="Start it at once.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Start it, and watch it to its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Create a run. Sent again after a broken connection, it still makes one run."""
    client = connect()
    project_id = find_id(client, "/projects", project, "project")
    configuration_id = find_id(client, "/configurations", configuration, "configuration")
    overrides = overrides_read(client.get(f"/configurations/{configuration_id}"), values) if values else {}
    body = {
        "configuration_id": configuration_id,
        "device_ids": _devices(client.get(f"/projects/{project_id}/devices"), device or [], idle),
        "overrides": overrides,
        "name": name,
        "backend": backend or None,
        "start": start or watch,
    }
    row = client.create(f"/projects/{project_id}/runs", body)
    if as_json:
        json_print(row, compact=watch)
    else:
        say(f"Run {row['id']}, {row['name']}, is created.")
    if row["start_refused"]:
        raise CliError(f"The run is created, but it could not start. {row['start_refused']}", Exit.REFUSED)
    if watch:
        raise typer.Exit(run_watch(client, row["id"], as_json=as_json))


@app.command("start")
def run_start(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Watch it to its end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start a run that was created."""
    client = connect()
    run_id = find_id(client, "/runs", run, "run")
    row = client.send("POST", f"/runs/{run_id}/start")
    if as_json:
        json_print(row, compact=watch)
    else:
        say(f"Run {row['id']}, {row['name']}, is {row['state']}.")
    if watch:
        raise typer.Exit(run_watch(client, run_id, as_json=as_json))


@app.command("stop")
def run_stop(
    run: RunArgument,
    reason: Annotated[str, typer.Option(help="Shown to everybody who sees the run.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Stop a run."""
    client = connect()
    row = client.send("POST", f"/runs/{find_id(client, '/runs', run, 'run')}/stop", {"reason": reason})
    if as_json:
        json_print(row)
    else:
        say(f"Run {row['id']}, {row['name']}, is {row['state']}.")


@app.command("watch")
def run_watch_command(run: RunArgument, as_json: JsonOption = False) -> None:
    """Follow a run to its end: 0 when it finished, 7 when it failed, 8 when it was stopped."""
    client = connect()
    raise typer.Exit(run_watch(client, find_id(client, "/runs", run, "run"), as_json=as_json))


@app.command("logs")
def run_logs(
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    reporter: Annotated[str, typer.Option(help="server, edge:ID or stage:NAME; all where it is empty.")] = "",
    level: Annotated[Level | None, typer.Option(help="The least level.", case_sensitive=False)] = None,
    search: SearchOption = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=5000, help="How many of the last lines.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Print the last log lines, and with --follow those that come."""
    client = connect()
    run_id = find_id(client, "/runs", run, "run")
    wanted: dict[str, Any] = {"reporter": reporter, "level": level.value if level else "", "q": search}
    page = client.get(f"/runs/{run_id}/logs", **wanted, limit=lines)
    for line in page["lines"]:
        log_print(line, as_json=as_json)
    if follow:
        log_follow(client, run_id, wanted, page["cursor"], as_json=as_json)


@app.command("export")
def run_export(
    run: RunArgument,
    format: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.JSON,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; - for standard output.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write every point of a run to a file; as JSON also its configuration, rounds and models."""
    client = connect()
    run_id = find_id(client, "/runs", run, "run")
    suffix = "-tensorboard.zip" if format == Format.TENSORBOARD else f".{format.value}"
    path = output or Path(f"run-{run_id}{suffix}")
    with client.stream(f"/runs/{run_id}/export", format=format.value) as response:
        if str(path) == "-":
            stdout = typer.get_binary_stream("stdout")
            for piece in response.iter_bytes():
                stdout.write(piece)
            return
        with transfer(f"run {run_id}", None) as progress:
            file_write(path, response.iter_bytes(), progress)
    if as_json:
        json_print({"file": str(path), "size": path.stat().st_size})
    else:
        warn(f"Written to {path}.")


@app.command("rename")
def run_rename(run: RunArgument, name: str, as_json: JsonOption = False) -> None:
    """Give a run another name."""
    client = connect()
    row = client.send("PATCH", f"/runs/{find_id(client, '/runs', run, 'run')}", {"name": name})
    if as_json:
        json_print(row)
    else:
        say(f"Run {row['id']} is now called {row['name']}.")


def _devices(offered: list[dict[str, Any]], given: list[str], idle: bool) -> list[int]:
    chosen = [row["id"] for row in offered if idle and row["state"] == "IDLE"]
    for text in given:
        found = [row["id"] for row in offered if text in (str(row["id"]), row["name"])]
        if len(found) != 1:
            known = ", ".join(f"{row['name']} ({row['id']})" for row in offered) or "none"
            raise CliError(
                f"--device {text}: the project has no one device of this name. There are: {known}.", Exit.USAGE
            )
        chosen += found
    if not chosen:
        raise CliError("Choose devices with --device, or use --all-idle while some are idle.", Exit.USAGE)
    return sorted(set(chosen))


def _best(row: dict[str, Any]) -> str:
    best = row["best_metric"]
    return f"{best['name']} {best['value']:.4g}" if best and best["value"] is not None else ""
