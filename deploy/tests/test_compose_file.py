"""``compose.yaml`` without Docker's compose: it keeps to the specification, and all that it names is there."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker
from click import Command
from django.core.management import load_command_class
from jsonschema import Draft7Validator
from uvicorn.main import main as uvicorn

from deploy.environment import environment_read, environment_write
from deploy.prepare import parser_make
from deploy.tests.production_files import DEPLOY, compose, compose_command
from mlops_site.celery import app

OURS = sorted(name for name, service in compose()["services"].items() if service["image"] == "roundtable")
VARIABLE = re.compile(r"\$\{([A-Z_]+)(:?[?-])?")


def test_it_keeps_to_the_specification() -> None:
    # From the Compose Specification (compose-spec.io), Apache License 2.0, as of docker-compose 1.29.2.
    schema = json.loads(Path(__file__).with_name("compose_spec.json").read_text())
    schema["properties"]["name"] = {"type": "string"}  # newer than that edition
    value = json.loads(json.dumps(compose()))
    assert [f"{'/'.join(map(str, error.path))}: {error.message}" for error in errors(schema, value)] == []
    value["services"]["web"]["comand"] = "typo"
    assert len(errors(schema, value)) == 1


def errors(schema: dict[str, Any], value: Any) -> list[Any]:
    return list(Draft7Validator(schema).iter_errors(value))


def test_every_variable_is_written_for_the_operator_or_has_a_value_by_itself(tmp_path: Path) -> None:
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).touch()
    environment_write(tmp_path / ".env", "platform.example.org", tmp_path / "chain.pem", tmp_path / "key.pem")
    written = environment_read(tmp_path / ".env")
    used = VARIABLE.findall((DEPLOY / "compose.yaml").read_text())
    with_default = {name for name, sign in used if sign.endswith("-")}
    assert {name for name, _ in used} - set(written) - with_default == set()


def test_every_variable_is_documented() -> None:
    documentation = (DEPLOY.parent / "docs" / "operations.md").read_text()
    used = {name for name, _ in VARIABLE.findall((DEPLOY / "compose.yaml").read_text())}
    assert {name for name in used if f"`{name}`" not in documentation} == set()


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_exists_and_takes_its_options(name: str) -> None:
    words = compose_command(name)
    match words:
        case ["python", "-m", "celery", "-A", application, command, *options]:
            assert importlib.util.find_spec(application) is not None
            parse({"worker": worker, "beat": beat}[command], options)
        case ["python", "-m", "uvicorn", *options]:
            parse(uvicorn, options)
        case ["python", "-m", "deploy.prepare", *options]:
            parser_make().parse_args(options)
        case ["python", "manage.py", "ingest", *options]:
            load_command_class("runs", "ingest").create_parser("manage.py", "ingest").parse_args(options)
        case ["mosquitto", "-c", _]:
            installed = re.search(r"apt-get install [^&]*", (DEPLOY / "Dockerfile").read_text())
            assert installed is not None
            assert "mosquitto" in shlex.split(installed[0])
        case _:
            pytest.fail(f"nothing is known of: {shlex.join(words)}")


def parse(command: Command, options: list[str]) -> None:
    """Read options as the command would, without running it."""
    command.make_context(str(command.name), list(options), obj=CLIContext(app=app, no_color=True, workdir=None))


def test_what_services_wait_for_is_there_and_can_be_waited_for() -> None:
    services = compose()["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, name
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other], (name, other)


def test_every_volume_is_declared_and_every_file_of_the_repository_exists() -> None:
    value = compose()
    for name, service in value["services"].items():
        for volume in service.get("volumes", []):
            source = volume.replace("${", "").split(":")[0] if not volume.startswith("${") else ""
            if source.startswith("./"):
                assert (DEPLOY / source).is_file(), (name, source)
            elif source and not source.startswith("/"):
                assert source in value["volumes"], (name, source)
    build = value["services"]["prepare"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == (DEPLOY / "Dockerfile").resolve()
