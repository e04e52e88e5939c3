"""Binding of devices, their credentials, and which of them a run may choose.

Presence and state are in ``devices.presence``; what other apps call of it is offered here too.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from devices.broker import (
    BrokerError,
    DeviceCredentials,
    commands_publish,
    device_credentials_create,
    device_credentials_revoke,
)
from devices.models import Device, EnrolmentCode
from devices.payloads import HostPayload, text_clean
from devices.presence import (
    DeviceActivity,
    device_activities,
    device_audience,
    device_state,
    devices_mark_silent,
    devices_notify,
    presence_apply,
)
from devices.tokens import (
    device_secret_new,
    device_token,
    device_token_read,
    enrolment_code_digest,
    enrolment_code_new,
    secret_digest,
    secret_matches,
)
from mlops_site.notices import notice_send
from runs.states import DeviceState

__all__ = [
    "CodeUsed",
    "DeviceActivity",
    "DeviceChoice",
    "Enrolment",
    "EnrolmentRefused",
    "device_activities",
    "device_audience",
    "device_enrol",
    "device_from_token",
    "device_rename",
    "device_rotate",
    "device_state",
    "device_unbind",
    "devices_for_choice",
    "devices_mark_silent",
    "devices_notify",
    "enrolment_code_create",
    "presence_apply",
]

# A binding that was cut off half-way leaves a device that was never bound; it is swept up after this long.
UNFINISHED_AFTER = timedelta(hours=1)
BIND_PAGE = 'the page "Bind a device"'
UNBOUND = "The device was unbound from the platform."

logger = logging.getLogger(__name__)


class EnrolmentRefused(Exception):
    """A code does not bind, or a token does not rotate. The message says what to do."""


class CodeUsed(EnrolmentRefused):
    """The code has bound a device already, perhaps a moment ago."""


@dataclass(frozen=True)
class Enrolment:
    """A device and its secrets, which exist here and on the device alone."""

    device: Device
    token: str = field(repr=False)
    credentials: DeviceCredentials


def enrolment_code_create(user: Any) -> str:
    """Make a code that binds one device to ``user``, once, within ``ENROLMENT_CODE_SECONDS``. It is shown only now."""
    return enrolment_code_issue(user)[0]


def enrolment_code_issue(user: Any) -> tuple[str, EnrolmentCode]:
    """Make a code as ``enrolment_code_create`` does, and return it with its row."""
    _unfinished_forget(user)
    now = timezone.now()
    EnrolmentCode.objects.filter(user=user, used_at=None, expires_at__lt=now - timedelta(days=1)).delete()
    code, digest = enrolment_code_new()
    row = EnrolmentCode.objects.create(
        user=user,
        code_hash=digest,
        expires_at=now + timedelta(seconds=settings.ENROLMENT_CODE_SECONDS),
    )
    return code, row


def device_enrol(code: str, name: str, host: HostPayload) -> Enrolment:
    """Bind a device by a one-time code.

    The broker's credentials are made before the code is taken, so that a failure on the way costs nothing: the code
    still binds, and what was made is taken back. Of two devices with one code, the one whose UPDATE comes first wins.

    Args:
        code: as the person typed it.
        name: what to call the device; its owner can rename it.
        host: the machine.

    Returns:
        The device with its secrets.

    Raises:
        EnrolmentRefused: the code is wrong or has expired.
        CodeUsed: it has bound a device already.
        BrokerError: the broker is away or refuses; the code is still good.
    """
    row = _code_find(code)
    secret = device_secret_new()
    device = Device.objects.create(
        owner_id=row.user_id,
        name=text_clean(name)[:120] or "device",
        token_hash=secret_digest(secret),
        unbound_at=timezone.now(),  # until the code is taken
        **host.model_dump(),
    )
    try:
        credentials = device_credentials_create(device.pk)
        with transaction.atomic():
            now = timezone.now()
            taken = EnrolmentCode.objects.filter(pk=row.pk, used_at=None, expires_at__gt=now).update(
                used_at=now, device=device
            )
            if not taken:
                row.refresh_from_db()
                raise _code_refusal(row)
            device.bound_at = device.credentials_rotated_at = device.online_since = now
            device.unbound_at = None
            device.save(update_fields=["bound_at", "credentials_rotated_at", "online_since", "unbound_at"])
            notice_send([row.user_id], {"kind": "enrolment", "id": row.pk, "device": device.pk})
            devices_notify([device.pk])
    except BaseException:
        _binding_take_back(device)
        raise
    logger.info("device %d was bound to user %d", device.pk, row.user_id)
    return Enrolment(device, device_token(device.pk, secret), credentials)


def device_rotate(device: Device) -> Enrolment:
    """Give a device new secrets. The old ones end at once: the broker cuts what is connected with them.

    Raises:
        EnrolmentRefused: the device was unbound, or another rotation has ended its token meanwhile.
        BrokerError: the broker is away or refuses; the device token is still good.
    """
    credentials = device_credentials_create(device.pk)
    secret = device_secret_new()
    rotated = (
        Device.objects.bound()
        .filter(pk=device.pk, token_hash=device.token_hash)
        .update(token_hash=secret_digest(secret), credentials_rotated_at=timezone.now())
    )
    if not rotated:
        if not Device.objects.bound().filter(pk=device.pk).exists():
            device_credentials_revoke(device.pk)
            raise EnrolmentRefused("This device was unbound; bind it again with a new code.")
        raise EnrolmentRefused("The credentials were rotated by another call at this moment; use what that one got.")
    device.refresh_from_db()
    devices_notify([device.pk])
    logger.info("the credentials of device %d were rotated", device.pk)
    return Enrolment(device, device_token(device.pk, secret), credentials)


def device_rename(device: Device, name: str) -> None:
    """Give the device another name, in every open page."""
    device.name = name
    device.save(update_fields=["name"])
    devices_notify([device.pk])


def device_unbind(device: Device) -> None:
    """End a device's binding: its agent is told to end what it runs, then all of its credentials end at once.

    Its row stays, for the runs that it took part in. A device that is unbound already is fine.

    Raises:
        BrokerError: the broker is away or refuses; the device is still bound.
    """
    held = list(device.run_devices.filter(holds_device=True).values_list("run_id", flat=True))
    commands_publish(
        (device.pk, {"type": "stop_train", "command_id": secrets.token_hex(8), "run_id": run_id, "reason": UNBOUND})
        for run_id in held
    )
    device_credentials_revoke(device.pk)
    now = timezone.now()
    changed = (
        Device.objects.bound()
        .filter(pk=device.pk)
        .update(unbound_at=now, online=False, online_since=now, token_hash="", boot="")
    )
    device.refresh_from_db()
    if changed:
        devices_notify([device.pk])
        logger.info("device %d was unbound", device.pk)


@dataclass(frozen=True)
class DeviceChoice:
    """A device in the list from which a run's devices are chosen."""

    device: Device
    state: DeviceState
    selectable: bool
    why_not: str


def devices_for_choice(project: Any) -> list[DeviceChoice]:
    """Return the bound devices of the project's members, those that can be chosen first."""
    devices = list(Device.objects.of_project(project).select_related("owner"))
    activities = device_activities(devices)
    why_not = {
        DeviceState.OFFLINE: "This device is offline: start its agent, or wait until it is back.",
        DeviceState.BUSY: "This device works for another run: wait until that has ended, or stop it.",
    }
    choices = [
        DeviceChoice(device, activity.state, activity.state == DeviceState.IDLE, why_not.get(activity.state, ""))
        for device in devices
        for activity in (activities[device.pk],)
    ]
    return sorted(choices, key=lambda choice: (not choice.selectable, choice.device.name.casefold(), choice.device.pk))


def device_from_token(token: str) -> Device | None:
    """Return the bound device whose token this is, or None."""
    parts = device_token_read(token)
    if parts is None:
        return None
    edge_id, secret = parts
    device = Device.objects.bound().filter(pk=edge_id).first()
    return device if device is not None and secret_matches(secret, device.token_hash) else None


def _code_find(code: str) -> EnrolmentCode:
    digest = enrolment_code_digest(code)
    row = EnrolmentCode.objects.filter(code_hash=digest).first() if digest else None
    if row is None:
        raise EnrolmentRefused(f"This enrolment code is not known; copy it again from {BIND_PAGE}.")
    if row.used_at is not None or row.expires_at <= timezone.now():
        raise _code_refusal(row)
    return row


def _code_refusal(row: EnrolmentCode) -> EnrolmentRefused:
    if row.used_at is not None:
        return CodeUsed(f"This enrolment code has been used already; make a new one on {BIND_PAGE}.")
    return EnrolmentRefused(f"This enrolment code has expired; make a new one on {BIND_PAGE}.")


def _binding_take_back(device: Device) -> None:
    """Remove a device that was not bound after all. Where the broker is away its credentials are swept up later."""
    try:
        device_credentials_revoke(device.pk)
    except BrokerError:
        logger.warning("the broker is away: what was made for device %d is removed later", device.pk)
        Device.objects.filter(pk=device.pk).update(token_hash="")
        return
    device.delete()


def _unfinished_forget(user: Any) -> None:
    """Sweep up what bindings of ``user`` left that were cut off before the code was taken."""
    never_bound = Device.objects.filter(
        owner=user, last_seen_at=None, unbound_at__lt=timezone.now() - UNFINISHED_AFTER, run_devices=None
    ).exclude(pk__in=EnrolmentCode.objects.filter(user=user, device__isnull=False).values("device"))
    for device in never_bound:
        try:
            device_credentials_revoke(device.pk)
        except BrokerError:
            return
        device.delete()
