"""What a device does: presence as its agent and the broker's last will tell it, and the work that it has."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from devices.models import Device
from devices.payloads import HostPayload, PresencePayload
from mlops_site.notices import notice_send
from runs.states import DeviceState, InstanceStatus

# An agent repeats its presence every 30 s; three of them missing in a row is silence.
SILENT_SECONDS = 90
CLOCK_SAMPLES = 5  # of a device's clock, one a presence message


def presence_apply(edge_id: int, payload: PresencePayload, retained: bool) -> bool:
    """Store what a presence message says, and tell open pages when the device came or went.

    An OFFLINE whose boot is not the last known one is the will of an agent that another start has replaced, and
    changes nothing. A retained ONLINE that is older than the agent's repetition says only what was once; a living agent
    repeats itself within half a minute. A device that does not exist or was unbound is ignored.

    Args:
        edge_id: the device.
        payload: the message.
        retained: the broker had kept the message and sent it at the subscription.

    Returns:
        Whether the device came or went by this message.
    """
    now = timezone.now()
    devices = Device.objects.bound().filter(pk=edge_id)
    if payload.state == "OFFLINE":
        changed = devices.filter(online=True, boot=payload.boot).update(online=False, online_since=now)
    else:
        if retained and payload.time is not None and abs(time.time() - payload.time) > SILENT_SECONDS:
            return False
        with transaction.atomic():
            changed = devices.filter(online=False).update(online=True, online_since=now)
            devices.update(
                **_clock_sample(devices, payload, retained),
                boot=payload.boot,
                last_seen_at=now,
                check_result=payload.check,
                **payload.model_dump(include=set(HostPayload.model_fields)),
            )
    if changed:
        devices_notify([edge_id])
    return bool(changed)


def _clock_sample(devices: QuerySet[Device], payload: PresencePayload, retained: bool) -> dict[str, list[float]]:
    """The column with the last samples of the device's clock, this message's among them; a retained one is too old."""
    if retained or payload.time is None:
        return {}
    earlier: list[float] = devices.values_list("clock_samples", flat=True).first() or []
    return {"clock_samples": [*earlier, round(payload.time - time.time(), 3)][-CLOCK_SAMPLES:]}


def devices_mark_silent() -> list[int]:
    """Take devices for offline that have not repeated their presence: neither they nor a will was heard.

    That is so after the broker and a device failed together, or after ingest was away for long.

    Returns:
        Edge ids of the devices that went offline by this call.
    """
    now = timezone.now()
    silent = Device.objects.filter(online=True, last_seen_at__lt=now - timedelta(seconds=SILENT_SECONDS))
    gone = [
        edge_id
        for edge_id in silent.values_list("pk", flat=True)
        if silent.filter(pk=edge_id).update(online=False, online_since=now)
    ]
    devices_notify(gone)
    return gone


@dataclass(frozen=True)
class DeviceActivity:
    """What a device does, and since when."""

    state: DeviceState
    since: datetime


def device_state(device: Device) -> DeviceState:
    """Return what the device does now."""
    return device_activities([device])[device.pk].state


def device_activities(devices: Collection[Device]) -> dict[int, DeviceActivity]:
    """Return what each of the devices does now, by edge id, in one query."""
    held = Q(run_devices__holds_device=True)
    work = {
        edge_id: (taken, freed)
        for edge_id, taken, freed in Device.objects.filter(pk__in=[device.pk for device in devices])
        .order_by()
        .annotate(
            taken=Max(Coalesce("run_devices__run__started_at", "run_devices__run__created_at"), filter=held),
            freed=Max("run_devices__since", filter=Q(run_devices__status__in=InstanceStatus.ended())),
        )
        .values_list("pk", "taken", "freed")
    }

    def activity(device: Device) -> DeviceActivity:
        taken, freed = work.get(device.pk, (None, None))
        if device.unbound_at is not None:
            return DeviceActivity(DeviceState.UNBOUND, device.unbound_at)
        if not device.online:
            return DeviceActivity(DeviceState.OFFLINE, device.online_since)
        if taken is not None:
            return DeviceActivity(DeviceState.BUSY, max(taken, device.online_since))
        return DeviceActivity(DeviceState.IDLE, max(freed or device.online_since, device.online_since))

    return {device.pk: activity(device) for device in devices}


def devices_notify(edge_ids: Iterable[int]) -> None:
    """Show what the devices do now in every open page of those who may see them, once this transaction is committed.

    To be called by whatever changes it: presence, a run that takes or frees a device, a new name.
    """
    devices = list(Device.objects.filter(pk__in=list(edge_ids)))
    activities = device_activities(devices)
    for device in devices:
        state = activities[device.pk].state
        notice_send(
            device_audience(device),
            {
                "kind": "device",
                "id": device.pk,
                "state": state.value,
                "label": state.label,
                "colour": state.colour,
                "since": activities[device.pk].since.timestamp(),
                "name": device.name,
            },
        )


def device_audience(device: Device) -> set[int]:
    """Return the ids of the users who may see the device: its owner, and those in a project or group of the owner."""
    users = get_user_model().objects
    mates = users.filter(memberships__project__memberships__user=device.owner_id)
    group_mates = users.filter(group_memberships__group__memberships__user=device.owner_id)
    return {device.owner_id, *mates.values_list("pk", flat=True), *group_mates.values_list("pk", flat=True)}
