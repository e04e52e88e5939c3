"""Forms of devices."""

from __future__ import annotations

from django import forms

from devices.payloads import text_clean


class DeviceNameForm(forms.Form):
    """What a device is called."""

    name = forms.CharField(max_length=120)

    def clean_name(self) -> str:
        name = text_clean(self.cleaned_data["name"])
        if not name:
            raise forms.ValidationError("A name needs at least one character that can be seen.")
        return name
