"""The command ``roundtable``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from roundtable_cli import __version__
from roundtable_cli.client import clients_close
from roundtable_cli.commands import account, configurations, devices, models, packages, projects, runs
from roundtable_cli.errors import CliError, Exit
from roundtable_cli.output import warn

app = typer.Typer(
    name="roundtable",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("login")(account.login)
app.command("logout")(account.logout)
app.command("whoami")(account.whoami)
app.add_typer(projects.app, name="projects")
app.add_typer(packages.app, name="packages")
app.add_typer(configurations.app, name="configurations")
app.add_typer(runs.app, name="runs")
app.add_typer(models.app, name="models")
app.add_typer(devices.app, name="devices")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"roundtable {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Roundtable from the command line.

    Exit codes: 0 done, 1 unexpected, 2 wrong command line, 3 not allowed, 4 not found, 5 refused, 6 platform
    unreachable, 7 the run failed, 8 the run was stopped.
    """


def main() -> None:
    """Run the command line; an error is a sentence on standard error and an exit code."""
    try:
        app(prog_name="roundtable")
    except CliError as error:
        warn(f"Error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.UNEXPECTED)
    finally:
        clients_close()


if __name__ == "__main__":
    main()
