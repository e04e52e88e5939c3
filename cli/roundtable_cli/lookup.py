"""Things by id or by name, and the client that finds them."""

from __future__ import annotations

from typing import Any

from roundtable_cli.client import Client
from roundtable_cli.credentials import credentials_load
from roundtable_cli.errors import CliError, Exit


def connect() -> Client:
    """Return a client with the credentials that are kept.

    Raises:
        CliError: there are none.
    """
    return Client(credentials_load())


def find_id(client: Client, path: str, text: str, what: str, **query: Any) -> int:
    """Return the id of what is called ``text``; digits are an id themselves.

    Raises:
        CliError: nothing has this name, or more than one thing has.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    found = [row for row in client.items(path, q=text, **query) if row["name"].casefold() == text.casefold()]
    if len(found) == 1:
        return int(found[0]["id"])
    if not found:
        raise CliError(f"There is no {what} named {text}. List them, or give an id.", Exit.NOT_FOUND)
    ids = ", ".join(str(row["id"]) for row in found)
    raise CliError(f"Several {what}s are named {text}: {ids}. Give an id.", Exit.REFUSED)
