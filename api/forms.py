"""The form of a new access token."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone

from api.scopes import Scope

LIFETIMES = {"30": "30 days", "90": "90 days", "365": "One year", "": "Never"}


class TokenForm(forms.Form):
    """What a token is for, what it may be used for, and until when."""

    name = forms.CharField(
        max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "laptop"})
    )
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=[Scope.READ.value],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose what the token may be used for."},
    )
    lifetime = forms.ChoiceField(choices=list(LIFETIMES.items()), initial="90", required=False, label="Expires after")

    def expires_at(self) -> datetime | None:
        """When the token ends; None: never."""
        days = self.cleaned_data["lifetime"]
        return timezone.now() + timedelta(days=int(days)) if days else None
