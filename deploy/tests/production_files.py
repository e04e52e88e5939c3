"""The files of production, read for tests: commands of ``compose.yaml``, of systemd's units and of the ``Procfile``."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any, cast

import yaml

DEPLOY = Path(__file__).resolve().parent.parent
PROCESSES = ("web", "worker", "builder", "beat", "ingest", "broker")


def compose() -> dict[str, Any]:
    """Return the compose file with its anchors and merges resolved."""
    return cast("dict[str, Any]", yaml.safe_load((DEPLOY / "compose.yaml").read_text()))


def compose_command(service: str) -> list[str]:
    return shlex.split(compose()["services"][service]["command"])


def procfile_command(process: str) -> list[str]:
    """Return a command of the local process group; variables stand as they are."""
    for line in (DEPLOY / "local" / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        if name == process:
            return shlex.split(command.removeprefix("exec ").replace("$PYTHON", "python"))
    raise KeyError(process)


def unit(name: str) -> configparser.SectionProxy:
    """Return the section ``Service`` of a unit of systemd."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return parser["Service"]


def unit_command(name: str) -> list[str]:
    command = re.sub(r"^/opt/roundtable/\.venv/bin/python|^/usr/sbin/", _program, unit(name)["ExecStart"])
    return shlex.split(command)


def _program(found: re.Match[str]) -> str:
    return "python" if found[0].endswith("python") else ""
