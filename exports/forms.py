"""The form that sends a run to an MLflow server."""

from __future__ import annotations

from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError


class MlflowForm(forms.Form):
    """Which server, and what the run is to stand under there."""

    url = forms.CharField(
        max_length=300,
        label="Address of the server",
        widget=forms.URLInput(attrs={"placeholder": "https://mlflow.example.org"}),
    )
    experiment = forms.CharField(max_length=200, help_text="Made there when there is none of this name.")
    token = forms.CharField(
        max_length=500,
        required=False,
        label="Token, or user:password",
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Where the server asks for one. It is forgotten once the run is there.",
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].rstrip("/")
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
            good = good and parts.username is None and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValidationError("Enter the address as https://host or https://host/path, without a login in it.")
        return url
