"""What the tests of the run lifecycle and its pipeline start from."""

from __future__ import annotations

import io
import itertools
import textwrap
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection
from django.utils import timezone

from configurations.models import Configuration, Package, PackageKind
from configurations.services import package_store
from devices.models import Device
from runs import lifecycle
from runs.lifecycle import RunRefused
from runs.models import Membership, Project, Role, Run, Stage, StageName
from runs.states import StageState
from runs.telemetry.payloads import RoundPayload, StatusPayload

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Flow:
    """A project with a member, a configuration and devices that are online."""

    user: User
    project: Project
    configuration: Configuration
    devices: list[Device]

    def run(self, **changes: Any) -> Run:
        """Create a run on all the devices."""
        arguments: dict[str, Any] = {
            "project": self.project,
            "user": self.user,
            "configuration": self.configuration,
            "device_ids": [device.pk for device in self.devices],
            "backend": "process",
        }
        return lifecycle.run_create(**arguments | changes)

    def started(self, **changes: Any) -> Run:
        """Create a run and start it."""
        return lifecycle.run_start(run=self.run(**changes), user=self.user)

    def running(self, **changes: Any) -> Run:
        """Create a run, start it, and bring it through its pipeline without doing anything of it."""
        run = self.started(**changes)
        for name in StageName:
            stage_pass(run, name)
        run.refresh_from_db()
        return run


def flow_make(*, devices: int = 2, role: Role = Role.MEMBER, packages: tuple[Package, Package] | None = None) -> Flow:
    """Make a project and all that a run in it needs."""
    number = next(_numbers)
    user = User.objects.create_user(f"member-{number}", password=None)
    project = Project.objects.create(name=f"project {number}", created_by=user)
    Membership.objects.create(project=project, user=user, role=role)
    server, client = packages or (package_row(PackageKind.SERVER), package_row(PackageKind.CLIENT))
    configuration = Configuration.objects.create(
        owner=user,
        name=f"configuration {number}",
        server_package=server,
        client_package=client,
        model_config=[{"name": "modelName", "type": "string", "value": "lr"}],
        hyperparameters_config=[
            {"name": "lr", "type": "float", "value": 0.03},
            {"name": "rounds", "type": "integer", "value": 3},
        ],
    )
    return Flow(user, project, configuration, [device_make(user) for _ in range(devices)])


def device_make(user: User, *, online: bool = True) -> Device:
    """Make a device of the user that was heard a moment ago."""
    return Device.objects.create(
        owner=user,
        name=f"device-{next(_numbers)}",
        online=online,
        os="Linux",
        arch="x86_64",
        token_hash="",
        last_seen_at=timezone.now(),
    )


def package_row(kind: PackageKind) -> Package:
    """Make a package that exists in the database alone."""
    number = next(_numbers)
    return Package.objects.create(
        sha256=f"{number:064x}",
        kind=kind,
        file_name="package.zip",
        size=1000,
        storage_name=f"packages/missing-{number}.zip",
        manifest={
            "kind": kind.value,
            "root": "package",
            "entry_file": "fedml/main.py",
            "model_config": [],
            "hyperparameters_config": [],
            "entry_arguments": [
                {"name": "run_id", "value": "${FEDSYS.RUN_ID}", "line": 10},
                {"name": "model", "value": "${model_config.modelName}", "line": 11},
                {"name": "lr", "value": "${hyperparameters_config.lr}", "line": 12},
                {"name": "clients", "value": "${FEDSYS.CLIENT_ID_LIST}", "line": 13},
                {"name": "rank", "value": "${FEDSYS_CLIENT_INDEX}", "line": 14},
                {"name": "data", "value": "${FEDSYS.PRIVATE_LOCAL_DATA}", "line": 15},
            ],
            "has_main": True,
            "requirements": [],
            "requirements_sha256": "",
            "files": 3,
            "unpacked_bytes": 1000,
            "warnings": [],
        },
    )


def package_real(
    kind: PackageKind,
    user: User,
    *,
    program: str = "",
    requirements: str | None = None,
    files: Mapping[str, str | bytes] | None = None,
) -> Package:
    """Pack and store a small package whose entry file is ``program``, with further ``files``."""
    members: dict[str, str | bytes] = {
        "package/conf/fedml.yaml": textwrap.dedent(
            """
            model_config:
              modelName: lr
            hyperparameters_config:
              lr: 0.03
              rounds: 3
            entry_config:
              entry_file: fedml/main.py
            entry_arguments:
              run_id: ${FEDSYS.RUN_ID}
              rank: ${FEDSYS.CLIENT_INDEX}
            """
        ),
        "package/fedml/main.py": textwrap.dedent(program) or "print('hello')\n",
    }
    if requirements is not None:
        members["package/requirements.txt"] = requirements
    members |= {f"package/{name}": content for name, content in (files or {}).items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return package_store(ContentFile(buffer.getvalue(), name="package.zip"), kind.value, user)


def stage_pass(run: Run, name: str, *, result: dict[str, Any] | None = None) -> None:
    """Claim a stage and end it well; the last stages also do what their worker would have written."""
    stage = lifecycle.stage_claim(run_id=run.pk, name=name, claim=f"claim-{name}")
    assert stage is not None
    if name == StageName.LAUNCH:
        lifecycle.aggregator_token(run.pk)
        lifecycle.aggregator_launched(run.pk, {"home": f"{run.pk}/server-test"})
    if name == StageName.DISPATCH:
        commands = lifecycle.dispatch_prepare(run.pk, image=None)
        lifecycle.dispatch_sent(run.pk, [edge_id for edge_id, _ in commands])
    assert lifecycle.stage_done(stage_id=stage.pk, claim=f"claim-{name}", result=result or {})


def status(value: str, reason: str = "", **fields: Any) -> StatusPayload:
    """A status message as a device's agent or the aggregator's launcher sends it."""
    number = next(_numbers)
    message = {"run_id": 1, "status": value, "reason": reason, "time": 1.0, "instance": "a", "seq": number, **fields}
    return StatusPayload.model_validate(message)


def round_(index: int, total: int = 3, seconds: float = 1.5) -> RoundPayload:
    """A round message as the aggregator sends it."""
    message = {"round_index": index, "total_rounds": total, "running_time": seconds, "instance": "a", "seq": 1}
    return RoundPayload.model_validate(message)


def states_of_stages(run: Run) -> dict[str, StageState]:
    """The states of a run's stages, by name."""
    return {stage.name: StageState(stage.state) for stage in Stage.objects.filter(run=run)}


def states_of_parts(run: Run) -> list[str]:
    """The statuses of a run's devices, by client index."""
    return list(run.run_devices.values_list("status", flat=True))


def at_once(actions: list[Callable[[], object]]) -> list[str]:
    """Do everything at the same moment, each in a thread of its own; return what was refused, and raise what broke."""
    barrier = threading.Barrier(len(actions))
    refusals: list[str] = []
    errors: list[Exception] = []

    def do(action: Callable[[], object]) -> None:
        barrier.wait()
        try:
            action()
        except RunRefused as error:
            refusals.append(str(error))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=do, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return refusals
