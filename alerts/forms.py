"""Forms of rules and channels."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from alerts.models import Channel, ChannelKind, Direction, Rule, RuleKind
from runs.models import Project

# What each kind of rule asks for; the page shows these fields alone.
RULE_FIELDS: dict[RuleKind, tuple[str, ...]] = {
    RuleKind.RUN_FAILED: (),
    RuleKind.DEVICE_OFFLINE: ("minutes",),
    RuleKind.METRIC_STALLED: ("metric", "direction", "rounds"),
    RuleKind.ROUND_LATE: ("minutes",),
}
MINUTES_MOST = 60 * 24 * 30


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """Where alerts are told."""

    kind = forms.ChoiceField(choices=ChannelKind)

    class Meta:
        model = Channel
        fields = ["kind", "name", "target"]
        labels = {"target": "URL or e-mail address"}
        help_texts = {
            "name": "As it is to be called in this project.",
            "target": "Shown to nobody afterwards, but for its host.",
        }

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._project = project

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if self._project.channels.filter(name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError("A channel of this project has this name. Choose another.")
        return name

    def clean(self) -> None:
        super().clean()
        kind, target = self.cleaned_data.get("kind"), self.cleaned_data.get("target", "")
        if not kind or not target:
            return
        if kind == ChannelKind.EMAIL:
            if not settings.EMAIL_CONFIGURED:
                self.add_error("kind", "This platform sends no e-mail. An operator sets ROUNDTABLE_EMAIL_URL for it.")
            try:
                validate_email(target)
            except ValidationError as error:
                self.add_error("target", error)
            return
        try:
            parts = urlsplit(target)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or any(character.isspace() for character in target):
            self.add_error("target", "Enter the whole URL of the hook, beginning with https:// or http://.")


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """What to watch, and where to tell it."""

    kind = forms.ChoiceField(choices=RuleKind, label="Tell when")
    minutes = forms.IntegerField(min_value=1, max_value=MINUTES_MOST, required=False, initial=10, label="For minutes")
    rounds = forms.IntegerField(min_value=1, max_value=100_000, required=False, initial=10, label="For rounds")

    class Meta:
        model = Rule
        fields = ["kind", "minutes", "metric", "direction", "rounds", "channels"]
        help_texts = {
            "metric": "As the aggregator reports it, such as test_accuracy.",
            "channels": "Open pages of members are told in any case.",
        }
        widgets = {"channels": forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"})}

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["channels"].queryset = project.channels.all()  # type: ignore[attr-defined]
        self.fields["direction"].required = False
        if not project.channels.exists():
            del self.fields["channels"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        kind = cleaned.get("kind")
        if not kind:
            return cleaned
        cleaned["direction"] = cleaned.get("direction") or Direction.MAX
        needed = RULE_FIELDS[RuleKind(kind)]
        for name in ("minutes", "metric", "direction", "rounds"):
            if name not in needed:
                cleaned[name] = {"metric": "", "direction": Direction.MAX}.get(name)
                self.errors.pop(name, None)
            elif not cleaned.get(name) and name not in self.errors:
                self.add_error(name, "This rule needs it.")
        return cleaned
