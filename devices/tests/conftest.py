"""People around a device: its owner, a mate of one project, and a stranger; and runs that devices take part in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from configurations.models import Package, PackageKind
from devices.models import Device
from devices.tokens import device_token, secret_digest
from runs.models import Membership, Project, Role, Run, RunDevice
from runs.states import InstanceStatus, RunState

SECRET = "the-devices-own-secret"


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("owner")


@pytest.fixture
def mate(db: None) -> User:
    return User.objects.create_user("mate")


@pytest.fixture
def stranger(db: None) -> User:
    return User.objects.create_user("stranger")


@pytest.fixture
def project(owner: User, mate: User) -> Project:
    """A project of the owner in which the mate may look."""
    project = Project.objects.create(name="Digits", created_by=owner)
    Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    Membership.objects.create(project=project, user=mate, role=Role.VIEWER)
    return project


@pytest.fixture
def device_make(owner: User) -> Callable[..., Device]:
    """Make a bound device; it is online unless told otherwise."""

    def make(name: str = "lab-east", **values: Any) -> Device:
        now = timezone.now()
        fields = {"owner": owner, "online": True, "boot": "boot-1", "last_seen_at": now, "online_since": now}
        return Device.objects.create(name=name, token_hash=secret_digest(SECRET), **fields | values)

    return make


@pytest.fixture
def device(device_make: Callable[..., Device]) -> Device:
    return device_make()


@pytest.fixture
def token(device: Device) -> str:
    """The token of ``device``."""
    return device_token(device.pk, SECRET)


@pytest.fixture
def run_make(project: Project) -> Callable[..., Run]:
    """Make a run that holds the devices given, with packages of its own."""

    def make(*devices: Device, state: RunState = RunState.RUNNING, held: bool = True, **values: Any) -> Run:
        number = Run.objects.count()
        packages = {
            f"{kind}_package": Package.objects.create(
                sha256=hashlib.sha256(f"{kind}{number}".encode()).hexdigest(),
                kind=kind,
                file_name="package.zip",
                size=0,
                storage_name=f"{kind}{number}.zip",
                manifest={},
            )
            for kind in PackageKind.values
        }
        fields: dict[str, Any] = {"project": project, "name": f"run {number}", "configuration_copy": {}, "state": state}
        run = Run.objects.create(backend="process", started_at=timezone.now(), **fields | packages | values)
        for index, device in enumerate(devices, start=1):
            RunDevice.objects.create(
                run=run,
                device=device,
                edge_id=device.pk,
                client_index=index,
                holds_device=held,
                status=InstanceStatus.TRAINING if held else InstanceStatus.FINISHED,
            )
        return run

    return make
