"""Logging in and out."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from roundtable_cli.client import Client
from roundtable_cli.credentials import Credentials, credentials_forget, credentials_load, credentials_save
from roundtable_cli.errors import CliError, Exit
from roundtable_cli.lookup import connect
from roundtable_cli.output import JsonOption, facts_print, json_print, moment, say, warn


def login(
    url: Annotated[str, typer.Argument(help="Address of the platform, such as https://roundtable.example.")],
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read the token from standard input.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Log in with an access token, made on the account page; it is asked for, and kept for you alone to read."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CliError("Give the address with its scheme, such as https://roundtable.example.", Exit.USAGE)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        warn("Careful: over http everybody on the way can read the token. Use https.")
    if token_stdin:
        token = sys.stdin.readline().strip()
    else:
        warn(f"Make a token at {url.rstrip('/')}/account/tokens/ and paste it here.")
        token = typer.prompt("Token", hide_input=True, err=True).strip()
    if not token.isascii() or not token.isprintable() or not token:
        raise CliError("This is no token. Copy it again.", Exit.USAGE)
    credentials = Credentials(url.rstrip("/"), token)
    account = Client(credentials).get("/account")
    path = credentials_save(credentials)
    if as_json:
        json_print(account)
    else:
        say(f"Logged in as {account['username']}. The token is kept in {path}.")


def logout(
    keep: Annotated[bool, typer.Option("--keep-token", help="Only forget the token here; do not revoke it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke the token and forget it."""
    problem = None
    if not keep:
        try:
            Client(credentials_load()).send("DELETE", "/account/tokens/current")
        except CliError as error:
            problem = error
    forgotten = credentials_forget()
    if problem is not None and (forgotten or problem.exit_code != Exit.NOT_ALLOWED):
        warn(f"The token was not revoked: {problem}")
    if as_json:
        json_print({"forgotten": forgotten, "revoked": problem is None and not keep})
    else:
        say("Logged out." if forgotten else "You were not logged in.")


def whoami(as_json: JsonOption = False) -> None:
    """Show the account and what its token may be used for."""
    client = connect()
    account = client.get("/account")
    if as_json:
        json_print(account)
        return
    token = account["token"] or {"name": "", "scopes": [], "expires_at": None}
    facts_print(
        [
            ("Platform", client.url),
            ("User", account["username"]),
            ("Token", token["name"]),
            ("Scopes", ", ".join(token["scopes"])),
            ("Expires", moment(token["expires_at"]) or "never"),
        ]
    )
