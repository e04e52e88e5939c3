"""The form of a new sweep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms

from configurations.models import Configuration
from configurations.rows import SECTIONS, value_parse
from runs.device_choice import DeviceNow
from runs.forms import OVERRIDE_PREFIX
from sweeps.plan import PlanRefused, plan, values_split

MODES = [("grid", "Every combination"), ("list", "Value by value")]


class SweepForm(forms.Form):
    """Which values are tried, on which devices, and how many runs at once.

    The values stand in fields named as those of a new run; an empty one keeps what is configured.
    """

    name = forms.CharField(max_length=100, help_text="Its runs are numbered after it.")
    configuration = forms.ModelChoiceField(Configuration.objects.none(), empty_label="Choose a configuration")
    mode = forms.ChoiceField(choices=MODES, label="Combine values")
    concurrency = forms.IntegerField(min_value=1, max_value=100, initial=1, label="Runs at once, at most")
    devices_per_run = forms.IntegerField(
        min_value=1, required=False, label="Devices a run", help_text="Empty: all that are chosen."
    )
    devices = forms.TypedMultipleChoiceField(coerce=int, error_messages={"required": "Choose at least one device."})

    def __init__(self, *args: Any, configurations: Any, devices: Iterable[DeviceNow], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["configuration"].queryset = configurations  # type: ignore[attr-defined]
        self.fields["devices"].choices = [(now.device.pk, str(now.device)) for now in devices]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        devices = cleaned.get("devices") or []
        cleaned["devices_per_run"] = cleaned.get("devices_per_run") or len(devices)
        if devices and cleaned["devices_per_run"] > len(devices):
            self.add_error("devices_per_run", f"Only {len(devices)} devices are chosen.")
        configuration, mode = cleaned.get("configuration"), cleaned.get("mode")
        if configuration is None or mode is None:
            return cleaned
        values = self._values(configuration)
        if self.errors:
            return cleaned
        try:
            cleaned["plan"] = plan(values, mode)
        except PlanRefused as refused:
            self.add_error(None, str(refused))
        cleaned["parameters"] = [name for name, each in values.items() if len(each) > 1]
        return cleaned

    def _values(self, configuration: Configuration) -> dict[str, list[str]]:
        """What was typed for each parameter, each value checked against the parameter's type."""
        found: dict[str, list[str]] = {}
        for section in SECTIONS:
            for row in getattr(configuration, section):
                name = f"{section}.{row['name']}"
                text = str(self.data.get(f"{OVERRIDE_PREFIX}{name}", "")).strip()
                if not text:
                    continue
                found[name] = values_split(text)
                for value in found[name]:
                    try:
                        value_parse(row["type"], value)
                    except ValueError as error:
                        self.add_error(None, f"{row['name']}, {value!r}: {error}")
        return found
