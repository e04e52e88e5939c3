"""Devices, and the codes that bind them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status

from api.auth import DEVICES as DEVICES_SCOPE
from api.auth import READ, user_of
from api.problems import form_problem
from api.schemas import Id, Page, PageQuery, rows_page, sort_query
from devices.access import device_for_change, device_for_user
from devices.forms import DeviceNameForm
from devices.lists import DEVICES, devices_listed
from devices.models import Device, EnrolmentCode
from devices.services import device_activities, device_rename, device_unbind, enrolment_code_issue
from runs.states import DeviceState

router = Router()


class Gpu(Schema):
    """A graphics processor."""

    name: str
    memory_bytes: int | None = None


class DeviceOut(Schema):
    """A machine that trains."""

    id: int = Field(description="the edge id")
    name: str
    owner: str
    state: DeviceState
    since: datetime = Field(description="since when it is in this state")
    last_seen_at: datetime | None
    bound_at: datetime
    os: str
    arch: str
    cpu: str
    cpu_count: int
    memory_bytes: int
    gpu: list[Gpu]
    python: str
    agent_version: str
    runtime: str


class DeviceChange(Schema):
    """Another name for a device."""

    name: str = Field(max_length=120)


class CodeMade(Schema):
    """A code that binds one device, once. It is shown in this answer alone."""

    id: int
    code: str
    expires_at: datetime
    server: str = Field(description="the address that the device is given")
    command: str = Field(description="what to type on the device, in a clone of the repository")
    command_download: str = Field(description="what to type on the device, without a clone")


class CodeOut(Schema):
    """What became of a code."""

    id: int
    expires_at: datetime
    expired: bool
    device_id: int | None = Field(description="the device that it has bound")
    device_state: DeviceState | None


@router.get("/devices", auth=READ, response=Page[DeviceOut], summary="List devices")
def device_list(
    request: HttpRequest,
    query: Query[PageQuery],
    sort: str = sort_query(DEVICES),
    whose: Annotated[Literal["", "mine", "team"], Query(description="mine, or team for those of others")] = "",
) -> dict[str, Any]:
    """Your own bound devices, and those of everyone with whom you share a project."""
    rows, page = rows_page(devices_listed(user_of(request), whose), DEVICES, query, sort)
    return {"items": devices_out(rows), **page}


@router.post("/devices/codes", auth=DEVICES_SCOPE, response={201: CodeMade}, summary="Make a code that binds a device")
def device_code_make(request: HttpRequest) -> Status[CodeMade]:
    """Type one of the commands on the device within the code's lifetime; it then belongs to you."""
    code, row = enrolment_code_issue(user_of(request))
    server = settings.PUBLIC_URL
    run = f"run.sh {code} --server {server}"
    return Status(
        201,
        CodeMade(
            id=row.pk,
            code=code,
            expires_at=row.expires_at,
            server=server,
            command=f"edge/{run}",
            command_download=f"curl -fsSL {server}/edge/agent.tar.gz | tar xz && roundtable-edge/{run}",
        ),
    )


@router.get("/devices/codes/{code_id}", auth=READ, response=CodeOut, summary="Show what became of a code")
def device_code_show(request: HttpRequest, code_id: Id) -> CodeOut:
    """Ask until ``device_state`` is IDLE: then the device is bound and online."""
    row = get_object_or_404(EnrolmentCode.objects.select_related("device"), pk=code_id, user=user_of(request))
    state = device_activities([row.device])[row.device.pk].state if row.device else None
    expired = row.device is None and row.expires_at <= timezone.now()
    return CodeOut(id=row.pk, expires_at=row.expires_at, expired=expired, device_id=row.device_id, device_state=state)


@router.get("/devices/{device_id}", auth=READ, response=DeviceOut, summary="Show a device")
def device_show(request: HttpRequest, device_id: Id) -> DeviceOut:
    return devices_out([device_for_user(user_of(request), device_id)])[0]


@router.patch("/devices/{device_id}", auth=DEVICES_SCOPE, response=DeviceOut, summary="Rename a device")
def device_change(request: HttpRequest, device_id: Id, payload: DeviceChange) -> DeviceOut:
    """Its owner may."""
    device = device_for_change(user_of(request), device_id)
    form = DeviceNameForm({"name": payload.name})
    if not form.is_valid():
        raise form_problem(form)
    device_rename(device, form.cleaned_data["name"])
    return devices_out([device])[0]


@router.delete("/devices/{device_id}", auth=DEVICES_SCOPE, response={204: None}, summary="Unbind a device")
def device_remove(request: HttpRequest, device_id: Id) -> Status[None]:
    """Its owner may. What it runs is told to end, and its credentials end at once; bind it again with a new code."""
    device_unbind(device_for_change(user_of(request), device_id))
    return Status(204, None)


def devices_out(devices: Iterable[Device]) -> list[DeviceOut]:
    """Describe devices with what they do now."""
    rows = list(devices)
    activities = device_activities(rows)
    return [
        DeviceOut(
            id=row.pk,
            owner=row.owner.get_username(),
            state=activities[row.pk].state,
            since=activities[row.pk].since,
            gpu=[Gpu(name=str(gpu.get("name") or "GPU"), memory_bytes=gpu.get("memory_bytes")) for gpu in row.gpu],
            name=row.name,
            last_seen_at=row.last_seen_at,
            bound_at=row.bound_at,
            os=row.os,
            arch=row.arch,
            cpu=row.cpu,
            cpu_count=row.cpu_count,
            memory_bytes=row.memory_bytes,
            python=row.python,
            agent_version=row.agent_version,
            runtime=row.runtime,
        )
        for row in rows
    ]
