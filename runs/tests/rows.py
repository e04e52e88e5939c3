"""Rows that the tests of telemetry and of the live page start from: a run with devices, and its reports."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta
from typing import Any

import orjson
from django.contrib.auth.models import User
from django.utils import timezone

from configurations.models import Package, PackageKind
from devices.models import Device
from runs.models import Membership, Project, Role, Run, RunDevice
from runs.states import RunState
from runs.telemetry.payloads import payload_parse
from runs.telemetry.storage import Report, report_of
from runs.telemetry.topics import Address, Kind

_numbers = itertools.count(1)
INSTANCE = "a1b2c3d4e5f60718"


def user_make(name: str = "") -> User:
    """Make a user who can log in by ``force_login`` alone."""
    return User.objects.create_user(name or f"user-{next(_numbers)}", password=None)


def run_make(*, user: User | None = None, devices: int = 2, state: RunState = RunState.RUNNING, **fields: Any) -> Run:
    """Make a run of a project of which ``user`` is the owner, on as many devices, without going through a pipeline."""
    number = next(_numbers)
    owner = user or user_make()
    project = Project.objects.create(name=f"project {number}", created_by=owner)
    Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    server, client = (
        Package.objects.create(
            sha256=f"{number:063x}{place}", kind=kind, file_name="package.zip", size=1, storage_name="", manifest={}
        )
        for place, kind in enumerate((PackageKind.SERVER, PackageKind.CLIENT))
    )
    run = Run.objects.create(
        project=project,
        name=f"run {number}",
        created_by=owner,
        configuration_copy=fields.pop("configuration_copy", {}),
        server_package=server,
        client_package=client,
        backend="process",
        state=state,
        **{"attempt_id": "attempt", "started_at": timezone.now(), **fields},
    )
    for index in range(1, devices + 1):
        device = Device.objects.create(owner=owner, name=f"device-{index}", online=True, token_hash="")
        RunDevice.objects.create(run=run, device=device, edge_id=device.pk, client_index=index, status="TRAINING")
    return run


def run_end(run: Run, *, seconds_ago: float = 0.0) -> None:
    """Let the run have finished some time ago."""
    Run.objects.filter(pk=run.pk).update(
        state=RunState.FINISHED, ended_at=timezone.now() - timedelta(seconds=seconds_ago)
    )


def edges(run: Run) -> list[int]:
    """Return the edge ids of the run's devices."""
    return list(run.run_devices.values_list("edge_id", flat=True))


def metrics(seq: int, *points: tuple[Any, ...], instance: str = INSTANCE) -> dict[str, Any]:
    """Make a metrics message of points ``(name, step, value)`` or ``(name, step, value, round)``."""
    return {
        "instance": instance,
        "seq": seq,
        "metrics": [
            {
                "name": point[0],
                "step": point[1],
                "time": time.time(),
                "value": point[2],
                **({"round": point[3]} if len(point) > 3 else {}),
            }
            for point in points
        ],
    }


def report(run: Run, edge_id: int, kind: Kind, message: dict[str, Any]) -> Report:
    """Make a checked report of a message."""
    return report_of(Address(kind, run.pk, edge_id), payload_parse(kind, orjson.dumps(message)))


def topic(run: Run, edge_id: int, kind: Kind) -> str:
    """Return the topic on which an edge reports in a run."""
    return f"runs/{run.pk}/{edge_id}/{kind.value}"
