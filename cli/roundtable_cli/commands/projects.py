"""Projects."""

from __future__ import annotations

from typing import Annotated

import typer

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
)

app = typer.Typer(no_args_is_help=True, help="Projects: folders of runs with their members.")


@app.command("list")
def project_list(search: SearchOption = "", limit: LimitOption = 50, as_json: JsonOption = False) -> None:
    """List your projects."""
    rows = connect().items("/projects", limit=limit, q=search)
    if as_json:
        json_print(rows)
        return
    table_print(
        ["ID", "NAME", "ROLE", "RUNS", "ACTIVE", "MEMBERS", "CREATED"],
        [
            (
                row["id"],
                row["name"],
                row["role"],
                row["run_count"],
                row["active_run_count"],
                row["member_count"],
                moment(row["created_at"]),
            )
            for row in rows
        ],
        empty="No projects. Create one: roundtable projects create NAME",
    )


@app.command("show")
def project_show(project: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonOption = False) -> None:
    """Show a project and its members."""
    client = connect()
    project_id = find_id(client, "/projects", project, "project")
    row = client.get(f"/projects/{project_id}")
    members = client.get(f"/projects/{project_id}/members")
    if as_json:
        json_print({**row, "members": members})
        return
    facts_print(
        [
            ("Project", f"{row['name']} ({row['id']})"),
            ("About", row["description"]),
            ("Runs", row["run_count"]),
            ("Members", ", ".join(f"{each['username']} ({each['role']})" for each in members)),
        ]
    )


@app.command("create")
def project_create(
    name: str,
    description: Annotated[str, typer.Option(help="What the team wants to find out.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Create a project; you are its owner."""
    row = connect().create("/projects", {"name": name, "description": description})
    if as_json:
        json_print(row)
    else:
        say(f"Project {row['id']}, {row['name']}, is created.")
