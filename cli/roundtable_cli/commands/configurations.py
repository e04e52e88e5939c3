"""Configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from roundtable_cli.client import Client
from roundtable_cli.errors import CliError, Exit
from roundtable_cli.lookup import connect, find_id
from roundtable_cli.output import (
    JsonOption,
    LimitOption,
    SearchOption,
    facts_print,
    json_print,
    moment,
    say,
    table_print,
    transfer,
)

app = typer.Typer(no_args_is_help=True, help="Configurations: what runs are made of.")
SECTIONS = ("model_config", "hyperparameters_config")
DIGEST_LENGTH = 64

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A value, as NAME=VALUE or SECTION.NAME=VALUE; may come again.")
]


@app.command("list")
def configuration_list(search: SearchOption = "", limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """List configurations, the latest changed first."""
    rows = connect().items("/configurations", limit=limit, q=search)
    if as_json:
        json_print(rows)
        return
    table_print(
        ["ID", "NAME", "OWNER", "RUNS", "SERVER", "CLIENT", "UPDATED"],
        [
            (
                row["id"],
                row["name"],
                row["owner"],
                row["run_count"],
                row["server_package"][:12],
                row["client_package"][:12],
                moment(row["updated_at"]),
            )
            for row in rows
        ],
        empty="No configurations. Create one: roundtable configurations create NAME --server FILE --client FILE",
    )


@app.command("show")
def configuration_show(
    configuration: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonOption = False
) -> None:
    """Show a configuration with its values."""
    client = connect()
    row = client.get(f"/configurations/{find_id(client, '/configurations', configuration, 'configuration')}")
    if as_json:
        json_print(row)
        return
    facts_print(
        [
            ("Configuration", f"{row['name']} ({row['id']})"),
            ("Owner", row["owner"]),
            ("Server package", row["server_package"]),
            ("Client package", row["client_package"]),
            ("Private data", row["private_data_path"]),
            ("Synthetic data", row["synthetic_data_url"] or (row["synthetic_data"] or {}).get("name", "")),
        ]
    )
    table_print(
        ["SECTION", "NAME", "TYPE", "VALUE"],
        [
            (section, each["name"], each["type"], json.dumps(each["value"]))
            for section in SECTIONS
            for each in row[section]
        ],
        empty="It has no values.",
    )


@app.command("create")
def configuration_create(
    name: str,
    server: Annotated[str, typer.Option(help="Server package: a file, or the sha256 of an uploaded one.")],
    client_package: Annotated[str, typer.Option("--client", help="Client package: a file, or a sha256.")],
    project: Annotated[str, typer.Option(help="Share it with this project (id or name).")] = "",
    values: SetOption = None,
    private_data: Annotated[str, typer.Option(help="Path below each device's data folder.")] = "",
    synthetic_url: Annotated[str, typer.Option(help="Where clients download their training data.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Create a configuration; its values come from the packages, but for those that are set."""
    client = connect()
    body: dict[str, Any] = {
        "name": name,
        "server_package": _package(client, "server", server),
        "client_package": _package(client, "client", client_package),
        "private_data_path": private_data,
        "synthetic_data_url": synthetic_url,
        "project_id": find_id(client, "/projects", project, "project") if project else None,
    }
    if values:
        filled = client.get(
            "/configurations/autofill", server_package=body["server_package"], client_package=body["client_package"]
        )
        body |= _with_values(filled, values)
    row = client.create("/configurations", body)
    if as_json:
        json_print(row)
    else:
        say(f"Configuration {row['id']}, {row['name']}, is created.")


def overrides_read(configuration: dict[str, Any], given: list[str]) -> dict[str, str]:
    """Return ``--set`` options as ``{"section.name": text}``; a name alone is looked up in the sections.

    Raises:
        CliError: one of them has no ``=``, or names nothing.
    """
    names = {f"{section}.{row['name']}": row["name"] for section in SECTIONS for row in configuration.get(section, [])}
    found: dict[str, str] = {}
    for option in given:
        name, equals, text = option.partition("=")
        if not equals:
            raise CliError(f"--set {option}: write NAME=VALUE.", Exit.USAGE)
        matches = [full for full, short in names.items() if name in (full, short)]
        if len(matches) != 1:
            known = ", ".join(names) or "none"
            raise CliError(f"--set {name}: there is no one value of this name. There are: {known}.", Exit.USAGE)
        found[matches[0]] = text
    return found


def _with_values(filled: dict[str, Any], given: list[str]) -> dict[str, Any]:
    texts = overrides_read(filled, given)
    return {
        section: [
            {**row, "value": _value(row, texts[f"{section}.{row['name']}"])}
            if f"{section}.{row['name']}" in texts
            else row
            for row in filled[section]
        ]
        for section in SECTIONS
    }


def _value(row: dict[str, Any], text: str) -> Any:
    if row["type"] == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise CliError(f"--set {row['name']}: {text} is no value of the type {row['type']}.", Exit.USAGE) from None


def _package(client: Client, kind: str, given: str) -> str:
    if len(given) == DIGEST_LENGTH and not Path(given).exists():
        return given
    file = Path(given)
    if not file.is_file():
        raise CliError(f"There is no file {given}, and it is no sha256 of a package.", Exit.USAGE)
    with transfer(f"{kind} package", file.stat().st_size) as progress:
        return str(client.upload("/packages", file, progress, kind=kind, file_name=file.name)["sha256"])
