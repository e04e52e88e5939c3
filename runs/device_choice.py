"""Devices with what they do now: for the check list of a new run, the home page and counters."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from devices.models import Device
from devices.services import device_activities
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
    """Look up what ``devices`` do, in one query for all of them."""
    devices = list(devices)
    activities = device_activities(devices)
    return [DeviceNow(device, activities[device.pk].state, activities[device.pk].since) for device in devices]


def state_counts(devices: Iterable[DeviceNow]) -> dict[str, int]:
    """How many of ``devices`` are in each state, by lower-case name: ``{"idle": 2, "busy": 1, ...}``."""
    counts = Counter(now.state for now in devices)
    return {state.value.lower(): counts[state] for state in DeviceState}
