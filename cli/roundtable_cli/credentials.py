"""Where the address and the token are kept: a file that only its owner can read."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from roundtable_cli.errors import CliError, Exit

URL_VARIABLE = "ROUNDTABLE_URL"
TOKEN_VARIABLE = "ROUNDTABLE_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Credentials:
    """The platform's address and an access token for it."""

    url: str
    token: str = field(repr=False)


def credentials_path() -> Path:
    """Return the file that ``roundtable login`` writes."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "roundtable" / "credentials.json"


def credentials_load() -> Credentials:
    """Return the credentials of the environment, or else of the file.

    Raises:
        CliError: there are none.
    """
    url, token = os.environ.get(URL_VARIABLE, ""), os.environ.get(TOKEN_VARIABLE, "")
    if url and token:
        return Credentials(url.rstrip("/"), token)
    try:
        kept = json.loads(credentials_path().read_text(encoding="utf-8"))
        return Credentials(str(kept["url"]), str(kept["token"]))
    except FileNotFoundError:
        raise CliError("You are not logged in. Type: roundtable login URL", Exit.NOT_ALLOWED) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"{credentials_path()} cannot be read. Log in again. ({error})", Exit.NOT_ALLOWED) from None


def credentials_save(credentials: Credentials) -> Path:
    """Write the file with mode 0600, in place of the one before, and return its path."""
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")  # made with mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"url": credentials.url, "token": credentials.token}, file)
    Path(name).replace(path)
    return path


def credentials_forget() -> bool:
    """Remove the file; return whether there was one."""
    try:
        credentials_path().unlink()
    except FileNotFoundError:
        return False
    return True
