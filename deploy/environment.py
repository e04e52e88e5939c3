#!/usr/bin/env python3
"""Write ``deploy/.env``, from which ``compose.yaml`` takes the domain, the certificate and random passwords.

    deploy/environment.py platform.example.org --certificate FILE --key FILE

Passwords that are in it already are kept. It needs nothing but Python.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parent / ".env"
ENGINE_SOCKET = Path("/var/run/docker.sock")
PASSWORDS = ("POSTGRES_PASSWORD", "REGISTRY_PASSWORD", "METRICS_TOKEN")
DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def environment_read(file: Path) -> dict[str, str]:
    """Return what a file of ``NAME=value`` lines says; nothing where there is none."""
    if not file.exists():
        return {}
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def environment_write(file: Path, domain: str, certificate: Path, key: Path) -> None:
    """Write the file, readable by its owner alone.

    Raises:
        ValueError: a name or path that cannot stand there; the message says why.
    """
    if DOMAIN.fullmatch(domain) is None:
        raise ValueError(f"{domain} is no domain name; give the one that browsers and devices use, in small letters.")
    paths = {"CERTIFICATE": certificate.absolute(), "CERTIFICATE_KEY": key.absolute()}
    for path in paths.values():
        if not path.is_file():
            raise ValueError(f"{path} is not there; give the PEM files of the domain's certificate and its key.")
        if re.search(r"[\s$'\"#\\:]", str(path)):
            raise ValueError(f"{path} has characters that compose would read as something else; use another path.")
    known = environment_read(file)
    values = {"DOMAIN": domain, **{name: str(path) for name, path in paths.items()}}
    values |= {name: known.get(name) or secrets.token_urlsafe(24) for name in PASSWORDS}
    if ENGINE_SOCKET.exists():
        values["DOCKER_GID"] = str(ENGINE_SOCKET.stat().st_gid)  # the worker is to be of the group that may use it
    values = {**known, **values}
    temporary = file.with_name(f"{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as output:
        output.writelines(f"{name}={value}\n" for name, value in values.items())
    temporary.replace(file)


def main() -> int:
    """Parse the command line and write the file; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", help="under which browsers and devices reach the platform")
    parser.add_argument("--certificate", type=Path, required=True, help="PEM file with the certificate chain")
    parser.add_argument("--key", type=Path, required=True, help="PEM file with its key")
    arguments = parser.parse_args()
    try:
        environment_write(FILE, arguments.domain, arguments.certificate, arguments.key)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    compose = f"docker compose -f {FILE.parent / 'compose.yaml'}"
    print(f"Wrote {FILE}. Next: {compose} build && {compose} up -d")
    return 0


if __name__ == "__main__":
    sys.exit(main())
