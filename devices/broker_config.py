"""The files from which a mosquitto broker starts: its configuration, and the first credentials of its security plugin.

The dynamic-security plugin (https://mosquitto.org/documentation/dynamic-security/) owns its JSON file once the broker
runs and writes it at every control command. Here it is only created, and the platform's own client in it is kept equal
to the settings; what the plugin has added is never touched.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import pwd
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGIN_NAME = "mosquitto_dynamic_security.so"
PLUGIN_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
# One message is at most 1 MiB by the protocol; nothing larger is taken in.
MESSAGE_MAX_BYTES = 1024 * 1024
# How many unacknowledged messages a client may hold: the ingest workers acknowledge in batches after the commit.
MAX_INFLIGHT_MESSAGES = 1000
PASSWORD_ITERATIONS = 20_000
PLATFORM_ROLE = "platform"


class BrokerConfigError(Exception):
    """The files cannot be written or used. The message says what to do."""


@dataclass(frozen=True)
class TlsFiles:
    """What a TLS listener presents: PEM files that the broker's user can read."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class BrokerFiles:
    """Where the files of a broker are."""

    configuration: Path
    credentials: Path

    @property
    def command(self) -> list[str]:
        """The command that starts the broker in the foreground."""
        return ["mosquitto", "-c", str(self.configuration)]


def plugin_find() -> Path:
    """Return the path of mosquitto's dynamic-security plugin.

    Raises:
        BrokerConfigError: mosquitto is not installed, or too old to have the plugin (before 2.0).
    """
    for folder in PLUGIN_FOLDERS:
        for pattern in (PLUGIN_NAME, f"*/{PLUGIN_NAME}"):
            for path in sorted(Path(folder).glob(pattern)):
                return path
    raise BrokerConfigError(f"{PLUGIN_NAME} was not found; install mosquitto 2 (on Debian: apt-get install mosquitto).")


def broker_config_write(
    directory: Path,
    port: int,
    *,
    username: str,
    password: str,
    host: str = "127.0.0.1",
    tls: TlsFiles | None = None,
    loopback_port: int | None = None,
    log_file: Path | None = None,
) -> BrokerFiles:
    """Write ``mosquitto.conf`` and, where it is missing, ``dynamic-security.json`` into ``directory``.

    The configuration is generated anew each time; additions of one's own belong in ``directory/conf.d/*.conf``, which
    it includes. Credentials that are there are kept; the platform's password in them is renewed when it differs. Do
    that while the broker is stopped: a running one keeps its own copy in memory and writes it back.

    Args:
        directory: made with mode 0700 when it is missing; files get mode 0600.
        port: TCP port of the listener that devices use.
        username: the platform's MQTT user.
        password: the platform's MQTT password; only its PBKDF2-SHA512 digest is written.
        host: address on which the listener listens.
        tls: makes the listener a TLS one.
        loopback_port: adds a second listener without TLS on 127.0.0.1, for platform processes beside the broker.
        log_file: where the broker logs; standard error when None.

    Returns:
        Where the files are.

    Raises:
        BrokerConfigError: no plugin on this machine, a path or password that cannot be written into the files, or a
            credentials file that is not one of the plugin's.
    """
    directory = directory.resolve()
    for value in (str(directory), host, str(log_file or ""), str(tls or "")):
        if any(ord(character) < 32 for character in value):
            raise BrokerConfigError("Paths and addresses of the broker must not have control characters in them.")
    if not password:
        raise BrokerConfigError("The platform's MQTT password is empty; set ROUNDTABLE_MQTT_PASSWORD.")
    plugin = plugin_find()
    for folder in (directory, directory / "data", directory / "conf.d"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = BrokerFiles(directory / "mosquitto.conf", directory / "dynamic-security.json")
    _credentials_write(files.credentials, username, password)
    lines = [
        "# Written by `manage.py broker_config` and written anew each time; additions belong in conf.d/*.conf.",
        *_user_lines(),
        "per_listener_settings false",
        "allow_anonymous false",
        f"plugin {plugin}",
        f"plugin_opt_config_file {files.credentials}",
        "",
        "# Sessions, queued commands and retained presence survive a restart.",
        "persistence true",
        f"persistence_location {directory / 'data'}/",
        "autosave_interval 60",
        "",
        "# No message of a slow subscriber is dropped (0: no limit on the queue of a client).",
        "max_queued_messages 0",
        f"max_inflight_messages {MAX_INFLIGHT_MESSAGES}",
        f"message_size_limit {MESSAGE_MAX_BYTES}",
        "set_tcp_nodelay true",
        "",
        f"log_dest file {log_file.resolve()}" if log_file else "log_dest stderr",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice", "information")),
        "connection_messages true",
        "",
        f"listener {port} {host}",
    ]
    if tls is not None:
        lines += [
            f"certfile {tls.certificate.resolve()}",
            f"keyfile {tls.key.resolve()}",
        ]
    if loopback_port is not None:
        lines += ["", f"listener {loopback_port} 127.0.0.1"]
    lines += ["", f"include_dir {directory / 'conf.d'}", ""]
    _write_private(files.configuration, "\n".join(lines))
    return files


def _user_lines() -> list[str]:
    """Name the current user: started by root, the broker would otherwise change to one who cannot read these files."""
    try:
        return [f"user {pwd.getpwuid(os.geteuid()).pw_name}"]
    except KeyError:  # a container may run under a number without a name; the broker then changes nothing
        return []


def _credentials_write(path: Path, username: str, password: str) -> None:
    role = {
        "rolename": PLATFORM_ROLE,
        "acls": [
            {"acltype": kind, "topic": topic, "allow": True}
            for topic in ("#", "$CONTROL/#", "$SYS/#", "$share/#")
            for kind in ("publishClientSend", "publishClientReceive", "subscribePattern", "unsubscribePattern")
        ],
    }
    if not path.exists():
        document: dict[str, Any] = {
            "defaultACLAccess": {
                "publishClientSend": False,
                "publishClientReceive": False,
                "subscribe": False,
                "unsubscribe": True,
            },
            "clients": [_client(username, password)],
            "groups": [],
            "roles": [role],
        }
    else:
        try:
            document = json.loads(path.read_text())
            clients = {client["username"]: client for client in document["clients"]}
            current = clients.get(username)
            if current is not None and _password_matches(current, password):
                return
            document["clients"] = [
                *(client for client in document["clients"] if client["username"] != username),
                _client(username, password),
            ]
            document["roles"] = [r for r in document["roles"] if r["rolename"] != PLATFORM_ROLE] + [role]
        except (ValueError, KeyError, TypeError) as error:
            raise BrokerConfigError(
                f"{path.name} is not a file of mosquitto's dynamic-security plugin; "
                "move it away and run the command again (devices must then be bound again)."
            ) from error
    _write_private(path, json.dumps(document, indent=1))


def _client(username: str, password: str) -> dict[str, Any]:
    salt = secrets.token_bytes(12)
    return {
        "username": username,
        "textName": "The platform's own processes",
        "password": base64.b64encode(_digest(password, salt, PASSWORD_ITERATIONS)).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": PASSWORD_ITERATIONS,
        "roles": [{"rolename": PLATFORM_ROLE}],
    }


def _password_matches(client: dict[str, Any], password: str) -> bool:
    digest = _digest(password, base64.b64decode(client["salt"]), int(client["iterations"]))
    return hmac.compare_digest(digest, base64.b64decode(client["password"]))


def _digest(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step by a file of mode 0600."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
