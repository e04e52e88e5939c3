"""Devices."""

from __future__ import annotations

import enum
import time
from typing import Annotated

import typer

from roundtable_cli.errors import CliError, Exit
from roundtable_cli.lookup import connect, find_id
from roundtable_cli.output import JsonOption, LimitOption, SearchOption, json_print, moment, say, size, table_print

app = typer.Typer(no_args_is_help=True, help="Devices: the machines that train.")
DeviceArgument = Annotated[str, typer.Argument(help="Id or name.")]
LOOK_SECONDS = 1.0


class Whose(enum.StrEnum):
    """Whose devices."""

    MINE = "mine"
    TEAM = "team"


@app.command("list")
def device_list(
    whose: Annotated[Whose | None, typer.Option(help="Only your own, or only those of others.")] = None,
    project: Annotated[str, typer.Option(help="Only those that runs of this project may use.")] = "",
    search: SearchOption = "",
    limit: LimitOption = 200,
    as_json: JsonOption = False,
) -> None:
    """List devices with what they do."""
    client = connect()
    if project:
        rows = client.get(f"/projects/{find_id(client, '/projects', project, 'project')}/devices")[:limit]
    else:
        rows = client.items("/devices", limit=limit, q=search, whose=whose.value if whose else "")
    if as_json:
        json_print(rows)
        return
    table_print(
        ["ID", "NAME", "STATE", "SINCE", "SYSTEM", "CORES", "MEMORY", "OWNER"],
        [
            (
                row["id"],
                row["name"],
                row["state"],
                moment(row["since"]),
                row["os"],
                row["cpu_count"],
                size(row["memory_bytes"]),
                row["owner"],
            )
            for row in rows
        ],
        empty="No devices. Bind one: roundtable devices bind",
    )


@app.command("bind")
def device_bind(
    wait: Annotated[bool, typer.Option(help="Wait until the device is there.")] = True, as_json: JsonOption = False
) -> None:
    """Make a code, and show the command that binds a machine to your account."""
    client = connect()
    made = client.send("POST", "/devices/codes")
    if as_json:
        json_print(made, compact=wait)
    else:
        say("Type this on the machine that is to train, in a clone of the repository:")
        say(f"  {made['command']}")
        say("or without a clone:")
        say(f"  {made['command_download']}")
    while wait:
        code = client.get(f"/devices/codes/{made['id']}")
        if code["device_state"] not in (None, "OFFLINE"):
            if as_json:
                json_print(code, compact=True)
            else:
                say(f"Device {code['device_id']} is bound and online.")
            return
        if code["expired"]:
            raise CliError("The code has expired unused. Make another one.", Exit.REFUSED)
        time.sleep(LOOK_SECONDS)


@app.command("rename")
def device_rename(device: DeviceArgument, name: str, as_json: JsonOption = False) -> None:
    """Give one of your devices another name."""
    client = connect()
    row = client.send("PATCH", f"/devices/{find_id(client, '/devices', device, 'device')}", {"name": name})
    if as_json:
        json_print(row)
    else:
        say(f"Device {row['id']} is now called {row['name']}.")


@app.command("unbind")
def device_unbind(
    device: DeviceArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Unbind one of your devices: what it runs is ended, and so are its credentials."""
    client = connect()
    device_id = find_id(client, "/devices", device, "device")
    row = client.get(f"/devices/{device_id}")
    if not yes:
        typer.confirm(
            f"Unbind {row['name']}? What it runs ends; it has to be bound anew.", default=False, abort=True, err=True
        )
    client.send("DELETE", f"/devices/{device_id}")
    if as_json:
        json_print({"id": device_id, "unbound": True})
    else:
        say(f"{row['name']} is unbound.")
