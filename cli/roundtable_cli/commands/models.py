"""Models of runs."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Protocol

import typer

from roundtable_cli.errors import CliError, Exit
from roundtable_cli.lookup import connect, find_id
from roundtable_cli.output import (
    JsonOption,
    LimitOption,
    file_write,
    json_print,
    moment,
    say,
    size,
    table_print,
    transfer,
)

app = typer.Typer(no_args_is_help=True, help="Models of a run.")
RunArgument = Annotated[str, typer.Argument(help="Id or name of the run.")]


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...


class Kind(enum.StrEnum):
    """Whose weights."""

    AGGREGATED = "aggregated"
    CLIENT = "client"


@app.command("list")
def model_list(
    run: RunArgument,
    kind: Annotated[Kind | None, typer.Option(help="Only those of this kind.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the models of a run, the newest first."""
    client = connect()
    path = f"/runs/{find_id(client, '/runs', run, 'run')}/models"
    rows = client.items(path, limit=limit, kind=kind.value if kind else "")
    if as_json:
        json_print(rows)
        return
    table_print(
        ["ID", "KIND", "DEVICE", "ROUND", "SIZE", "SHA256", "CREATED"],
        [
            (
                row["id"],
                row["kind"],
                row["edge_id"] or "",
                row["round_index"],
                size(row["size"]),
                row["sha256"][:16],
                moment(row["created_at"]),
            )
            for row in rows
        ],
        empty="No models yet.",
    )


@app.command("download")
def model_download(
    run: RunArgument,
    model: Annotated[int | None, typer.Argument(help="Id; the last aggregated model where it is left out.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Download the weights of a model as a safetensors file, and check their digest."""
    client = connect()
    run_id = find_id(client, "/runs", run, "run")
    if model is None:
        found = client.items(f"/runs/{run_id}/models", limit=1, kind=Kind.AGGREGATED.value, sort="-round")
        if not found:
            raise CliError("The run has no aggregated model yet.", Exit.NOT_FOUND)
        row = found[0]
    else:
        row = client.get(f"/runs/{run_id}/models/{model}")
    path = output or Path(f"run-{run_id}-{row['kind']}-round-{row['round_index']}-{row['id']}.safetensors")
    digest = hashlib.sha256()
    with (
        client.stream(f"/runs/{run_id}/models/{row['id']}/file") as response,
        transfer(f"model {row['id']}", row["size"]) as progress,
    ):
        file_write(path, _digested(response.iter_bytes(), digest), progress)
    if digest.hexdigest() != row["sha256"]:
        path.unlink()
        raise CliError("The weights came damaged and were thrown away. Download them again.", Exit.UNEXPECTED)
    if as_json:
        json_print({**row, "file": str(path)})
    else:
        say(f"Written to {path}.")


def _digested(pieces: Iterator[bytes], digest: Digest) -> Iterator[bytes]:
    for piece in pieces:
        digest.update(piece)
        yield piece
