"""What is done once before the platform's processes start, at the first start and after each new version.

``python -m deploy.prepare`` applies migrations, collects the static files, and writes the broker's configuration and,
where it is asked to, the password file of the registry. All of it may be done again.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import bcrypt
import django
from django.conf import settings
from django.core.management import call_command


def registry_user_write(path: Path, user: str, password: str) -> None:
    """Write the password file of a docker registry (``htpasswd`` with bcrypt) with one user; a good one is kept.

    Raises:
        ValueError: no user or password is given.
    """
    if not user or not password:
        raise ValueError("Set ROUNDTABLE_REGISTRY_USER and ROUNDTABLE_REGISTRY_PASSWORD for the registry's own user.")
    if path.exists():
        name, _, digest = path.read_text().strip().partition(":")
        if name == user and bcrypt.checkpw(password.encode(), digest.encode()):
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # The registry reads it as a user of its own; a bcrypt digest of a random password may be read.
    temporary.write_text(f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode()}\n")
    temporary.replace(path)


def parser_make() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.prepare", description=__doc__)
    parser.add_argument("--broker-host", default="127.0.0.1", help="address on which the broker listens without TLS")
    parser.add_argument("--broker-port", type=int, help="and its port; by default the one of the settings")
    parser.add_argument("--registry-users", type=Path, help="password file to write for a registry of our own")
    return parser


def main() -> None:
    """Parse the command line and do it all."""
    arguments = parser_make().parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_site.settings")
    django.setup()
    call_command("migrate", interactive=False)
    call_command("collectstatic", interactive=False)
    port = arguments.broker_port or settings.MQTT_PORT
    call_command("broker_config", host=arguments.broker_host, port=port)
    if arguments.registry_users is not None:
        registry_user_write(arguments.registry_users, settings.REGISTRY_USER, settings.REGISTRY_PASSWORD)


if __name__ == "__main__":
    main()
