"""Objects for the tests of pages: users, projects, devices, configurations and runs with sensible values."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from configurations.models import Configuration, Package
from devices.models import Device
from runs.models import Membership, Project, Role, Run, RunDevice
from runs.states import RunState

PASSWORD = "correct horse battery"


def make_user(name: str, **fields: Any) -> User:
    return User.objects.create_user(name, password=PASSWORD, **fields)


def make_project(owner: User, name: str = "Digits", **members: str) -> Project:
    """A project with ``owner`` and further members, given as ``role=user name``."""
    project = Project.objects.create(name=name, created_by=owner)
    Membership.objects.create(project=project, user=owner, role=Role.OWNER)
    for role, username in members.items():
        Membership.objects.create(project=project, user=User.objects.get(username=username), role=role)
    return project


def make_device(owner: User, name: str = "ward-north", *, online: bool = True, **fields: Any) -> Device:
    since = timezone.now() - timedelta(minutes=3)
    return Device.objects.create(
        owner=owner, name=name, online=online, online_since=since, token_hash="0" * 64, **fields
    )


def make_configuration(owner: User, name: str = "FedAvg", **fields: Any) -> Configuration:
    """A configuration whose packages have an entry file and the arguments of two of its values."""
    packages = {}
    for number, kind in enumerate(("server", "client")):
        manifest = {
            "kind": kind,
            "root": "package",
            "entry_file": "fedml/main.py",
            "entry_arguments": [
                {"name": "model", "value": "${model_config.modelName}", "line": 1},
                {"name": "lr", "value": "${hyperparameters_config.lr}", "line": 2},
            ],
            "requirements": [],
        }
        packages[kind], _ = Package.objects.get_or_create(
            sha256=str(number) * 64,
            kind=kind,
            defaults={"file_name": f"{kind}.zip", "size": 2048, "storage_name": kind, "manifest": manifest},
        )
    defaults: dict[str, Any] = {
        "model_config": [{"name": "modelName", "type": "string", "value": "lr"}],
        "hyperparameters_config": [
            {"name": "lr", "type": "float", "value": 0.03},
            {"name": "comm_round", "type": "integer", "value": 10},
        ],
    }
    return Configuration.objects.create(
        owner=owner,
        name=name,
        server_package=packages["server"],
        client_package=packages["client"],
        **(defaults | fields),
    )


def make_run(project: Project, devices: list[Device] | None = None, *, hold: bool = False, **fields: Any) -> Run:
    configuration = fields.pop("configuration", None)
    if configuration is None:
        owner = project.memberships.get(role=Role.OWNER).user
        configuration = Configuration.objects.filter(owner=owner).first() or make_configuration(owner)
    defaults: dict[str, Any] = {"name": "quiet-heron", "state": RunState.CREATED, "backend": "process"}
    run = Run.objects.create(
        project=project,
        configuration=configuration,
        configuration_copy={},
        server_package=configuration.server_package,
        client_package=configuration.client_package,
        **(defaults | fields),
    )
    for index, device in enumerate(devices or [], start=1):
        RunDevice.objects.create(run=run, device=device, edge_id=device.pk, client_index=index, holds_device=hold)
    return run
