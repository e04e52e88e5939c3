"""Compose file, image and units of systemd: they start what the local group starts, and hold their rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.tests.production_files import (
    DEPLOY,
    PROCESSES,
    compose,
    compose_command,
    procfile_command,
    unit,
    unit_command,
)

UNITS = {process: f"roundtable-{process}{'@' if process == 'ingest' else ''}.service" for process in PROCESSES}
# What may differ: where things are, who is spoken to, and how long a good-bye may take.
PLACES = {"--host", "--port", "--schedule", "-n", "-c", "--slot", "--timeout-graceful-shutdown"}
ADDED = {"web": {"--proxy-headers", "--forwarded-allow-ips"}}


def parts(command: list[str]) -> tuple[list[str], set[tuple[str, ...]]]:
    """Return the program with what it is given, and its options, those with a value together with it."""
    words: list[str] = []
    options: set[tuple[str, ...]] = set()
    position = 0
    while position < len(command):
        word = command[position]
        following = command[position + 1] if position + 1 < len(command) else "-"
        if word in ("-m", "-A"):  # of Python and Celery
            words += [word, following]
            position += 1
        elif not word.startswith("-"):
            words.append(word)
        elif word in PLACES:
            options.add((word,))
            position += 1
        elif following.startswith("-") or "=" in word:
            options.add((word,))
        else:
            options.add((word, following))
            position += 1
        position += 1
    return words, options


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("kind", ["compose", "systemd"])
def test_commands_are_those_of_the_local_process_group(process: str, kind: str) -> None:
    command = compose_command(process) if kind == "compose" else unit_command(UNITS[process])
    words, options = parts(command)
    local_words, local_options = parts(procfile_command(process))
    added = {option for option in options if option[0] in ADDED.get(process, set())}
    assert words == local_words
    assert options - added == local_options


def test_the_image_starts_the_web_process() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^CMD \[(.*)\]$", text, flags=re.MULTILINE)
    words, options = parts(re.findall(r'"([^"]*)"', command))
    assert (words, options) == parts(procfile_command("web"))


def test_the_image_s_user_is_that_of_the_images_of_packages() -> None:
    from runs.pipeline.backends.images import INSTANCE_UID

    assert f"\nUSER {INSTANCE_UID}:{INSTANCE_UID}\n" in (DEPLOY / "Dockerfile").read_text()


def test_every_service_is_hardened() -> None:
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_worker_and_builder_alone_have_the_engine_and_the_proxy_alone_listens() -> None:
    services = compose()["services"]
    with_engine = {name for name, service in services.items() if "docker.sock" in str(service.get("volumes", ""))}
    assert with_engine == {"worker", "builder"}
    assert {name for name, service in services.items() if "ports" in service} == {"proxy"}


def test_secrets_go_to_who_needs_them() -> None:
    services = compose()["services"]
    holders = {
        secret: {name for name, service in services.items() if secret in str(service.get("environment", ""))}
        for secret in ("${POSTGRES_PASSWORD", "${REGISTRY_PASSWORD", "${METRICS_TOKEN")
    }
    assert holders == {
        "${POSTGRES_PASSWORD": {"prepare", "web", "worker", "builder", "beat", "ingest", "postgres"},
        "${REGISTRY_PASSWORD": {"prepare", "worker", "builder"},
        "${METRICS_TOKEN": {"web"},
    }
    assert not re.search(r"(PASSWORD|TOKEN): [^$&*]", (DEPLOY / "compose.yaml").read_text())


def test_settings_that_the_compose_file_names_exist() -> None:
    settings = (DEPLOY.parent / "mlops_site" / "settings.py").read_text()
    for file in ("compose.yaml", "systemd/environment.example"):
        named = set(re.findall(r"\bROUNDTABLE_[A-Z_]+", (DEPLOY / file).read_text()))
        assert {name for name in named if f'"{name}"' not in settings} == set(), file


@pytest.mark.parametrize("process", PROCESSES)
def test_units_hold_their_rules(process: str) -> None:
    service = unit(UNITS[process])
    assert service["User"] == "roundtable"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["ReadWritePaths"] == "/var/lib/roundtable"
    assert service["CapabilityBoundingSet"] == ""
    # Aggregators of the process backend outlive a restart of the worker.
    assert service.get("KillMode") == ("process" if process == "worker" else None)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT CHECKED: units of systemd, since systemd-analyze is not installed here.")
    for source in (DEPLOY / "systemd").glob("roundtable*"):
        text = source.read_text().replace("/opt/roundtable/.venv/bin/python", sys.executable)
        text = text.replace("/usr/sbin/mosquitto", sys.executable).replace("/opt/roundtable", str(tmp_path))
        (tmp_path / source.name.replace("@", "@0" if source.name.endswith("@.service") else "@")).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *map(str, sorted(tmp_path.glob("*.*")))],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line or "roundtable" in line] == []
