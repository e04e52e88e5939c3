"""Packages."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from roundtable_cli.lookup import connect
from roundtable_cli.output import (
    JsonOption,
    LimitOption,
    SearchOption,
    json_print,
    moment,
    say,
    size,
    table_print,
    transfer,
    warn,
)

app = typer.Typer(no_args_is_help=True, help="Packages, as build.sh makes them.")


class Kind(enum.StrEnum):
    """What a package is for."""

    SERVER = "server"
    CLIENT = "client"


@app.command("list")
def package_list(
    kind: Annotated[Kind | None, typer.Option(help="Only those of this kind.")] = None,
    search: SearchOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List packages, the newest first."""
    rows = connect().items("/packages", limit=limit, q=search, kind=kind.value if kind else "")
    if as_json:
        json_print(rows)
        return
    table_print(
        ["SHA256", "KIND", "FILE", "SIZE", "UPLOADED"],
        [
            (row["sha256"][:16], row["kind"], row["file_name"], size(row["size"]), moment(row["uploaded_at"]))
            for row in rows
        ],
        empty="No packages. Upload one: roundtable packages upload server package.zip",
    )


@app.command("upload")
def package_upload(
    kind: Kind,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The package.zip.")],
    as_json: JsonOption = False,
) -> None:
    """Upload a package. The same bytes are stored once."""
    with transfer(f"{kind.value} package", file.stat().st_size) as progress:
        row = connect().upload("/packages", file, progress, kind=kind.value, file_name=file.name)
    for warning in row["warnings"]:
        warn(f"Note: {warning}")
    if as_json:
        json_print(row)
    else:
        say(f"{kind.value} package {row['sha256']}")
