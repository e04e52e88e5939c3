"""Devices with what they do now: for the check list of a new run, the home page and counters."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from devices.models import Device
from runs.models import RunDevice
from runs.states import DeviceState


@dataclass(frozen=True)
class DeviceNow:
    """A device, its state, since when it is so, and whether a run may take it."""

    device: Device
    state: DeviceState
    since: datetime

    @property
    def free(self) -> bool:
        return self.state == DeviceState.IDLE


def devices_now(devices: Iterable[Device]) -> list[DeviceNow]:
    """Look up what ``devices`` do, in one query for all of them.

    A device that is away is shown as offline even where a run holds it: that is what a person has to see to.
    """
    devices = list(devices)
    held = {
        part.edge_id: part.since
        for part in RunDevice.objects.filter(holds_device=True, edge_id__in=[device.pk for device in devices])
    }
    return [_device_now(device, held.get(device.pk)) for device in devices]


def _device_now(device: Device, busy_since: datetime | None) -> DeviceNow:
    if device.unbound_at is not None:
        return DeviceNow(device, DeviceState.UNBOUND, device.unbound_at)
    if not device.online:
        return DeviceNow(device, DeviceState.OFFLINE, device.online_since)
    if busy_since is not None:
        return DeviceNow(device, DeviceState.BUSY, busy_since)
    return DeviceNow(device, DeviceState.IDLE, device.online_since)


def state_counts(devices: Iterable[DeviceNow]) -> dict[str, int]:
    """How many of ``devices`` are in each state, by lower-case name: ``{"idle": 2, "busy": 1, ...}``."""
    counts = Counter(now.state for now in devices)
    return {state.value.lower(): counts[state] for state in DeviceState}
