"""Forms of projects and of new runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from django import forms
from django.http import QueryDict

from configurations.models import Configuration
from configurations.rows import ROW_TYPES, SECTIONS, value_text
from groups.models import Group, GroupMembership
from runs.device_choice import DeviceNow
from runs.lifecycle.creation import DEFAULT_LIMITS, LIMIT_RANGES, placement_condition
from runs.lifecycle.errors import RunRefused
from runs.models import Project, Role, Run

OVERRIDE_PREFIX = "set:"
RESERVED = ("memory_mb", "cpus")
LIMIT_LABELS = {"memory_mb": "Memory (MB)", "cpus": "CPUs", "pids": "Processes"}


class ProjectForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name, description and group of a project."""

    class Meta:
        model = Project
        fields = ["name", "description", "group"]
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}
        help_texts = {
            "description": "What the team wants to find out. Shown to its members.",
            "group": "Its members see the project with all its runs and have their role in the group in it.",
        }

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        """Offer the groups into which ``user`` may put projects, and the one in which the project is."""
        super().__init__(*args, **kwargs)
        may_add = Group.objects.filter(
            pk__in=GroupMembership.objects.filter(user=user).exclude(role=Role.VIEWER).values("group")
        )
        own = Group.objects.filter(pk=self.instance.group_id)
        field = cast(forms.ModelChoiceField, self.fields["group"])  # type: ignore[type-arg]
        field.queryset = (may_add | own).order_by("name")
        field.empty_label = "None: members are added by name"


class MemberForm(forms.Form):
    """A user to add to a project, by name."""

    username = forms.CharField(max_length=150, label="User name")
    role = forms.ChoiceField(choices=Role, initial=Role.MEMBER)


@dataclass(frozen=True)
class ParameterRow:
    """One value of a configuration with a field that changes it for one run alone.

    ``field`` is the input's name, ``configured`` the text of the configuration's value and ``text`` what stands in the
    field now.
    """

    field: str
    name: str
    type_label: str
    configured: str
    text: str

    @property
    def changed(self) -> bool:
        return self.text != self.configured

    def emptied(self) -> ParameterRow:
        """The same row with nothing in its field."""
        return replace(self, text="")


@dataclass(frozen=True)
class ParameterSection:
    """The rows of ``model_config`` or ``hyperparameters_config``."""

    title: str
    rows: list[ParameterRow]


def parameter_sections(configuration: Configuration | Run, data: QueryDict | None = None) -> list[ParameterSection]:
    """The values of a configuration, or of a run's copy of one, as fields, filled from ``data`` where that has them."""
    titles = {"model_config": "Model", "hyperparameters_config": "Hyper-parameters"}
    if isinstance(configuration, Run):
        own = configuration.configuration_copy
    else:
        own = {section: getattr(configuration, section) for section in SECTIONS}
    sections = []
    for section in SECTIONS:
        rows = []
        for row in own[section]:
            field = f"{OVERRIDE_PREFIX}{section}.{row['name']}"
            configured = value_text(row["value"])
            text = configured if data is None else data.get(field, configured)
            rows.append(ParameterRow(field, row["name"], ROW_TYPES[row["type"]], configured, text))
        sections.append(ParameterSection(titles[section], rows))
    return sections


def _limit_field(name: str) -> forms.Field:
    """A field for one limit; empty means the default."""
    low, high = LIMIT_RANGES[name]
    common: dict[str, Any] = {"required": False, "label": LIMIT_LABELS[name], "initial": DEFAULT_LIMITS[name]}
    if name == "cpus":
        widget = forms.NumberInput(attrs={"step": "any"})
        return forms.FloatField(min_value=low, max_value=high, widget=widget, **common)
    return forms.IntegerField(min_value=int(low), max_value=int(high), **common)


class RunForm(forms.Form):
    """A new run of one project."""

    name = forms.CharField(max_length=120, required=False)
    configuration = forms.ModelChoiceField(
        Configuration.objects.none(),
        empty_label="Choose a configuration",
        error_messages={"required": "Choose a configuration."},
    )
    devices = forms.TypedMultipleChoiceField(
        coerce=int,
        error_messages={
            "required": "Choose at least one device.",
            "invalid_choice": "Device %(value)s cannot be used in this project. Choose devices from the list.",
        },
    )

    placement = forms.CharField(
        required=False,
        max_length=2000,
        label="Conditions on the node",
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "node.labels.zone == a"}),
        help_text="One a line: node.labels.NAME, node.hostname or node.role, == or !=, a value.",
    )

    def __init__(
        self,
        *args: Any,
        configurations: Any,
        devices: Iterable[DeviceNow],
        repeats: Run | None = None,
        **kwargs: Any,
    ) -> None:
        """Offer ``configurations`` (a queryset) and ``devices``. Busy and offline ones are refused at the start.

        Where the run ``repeats`` another, that one's copy stands in for the configuration.
        """
        super().__init__(*args, **kwargs)
        self.repeats = repeats
        self.fields["configuration"].required = repeats is None
        self.fields["configuration"].queryset = configurations  # type: ignore[attr-defined]
        self.fields["devices"].choices = [(now.device.pk, str(now.device)) for now in devices]  # type: ignore[attr-defined]
        for reporter in ("server", "client"):
            for name in DEFAULT_LIMITS:
                self.fields[f"{reporter}_{name}"] = _limit_field(name)
        for name in RESERVED:
            field = self.fields[f"reserve_{name}"] = _limit_field(name)
            field.initial = None
            field.label = f"{LIMIT_LABELS[name]} reserved"

    def clean_placement(self) -> list[str]:
        """The conditions, one a line."""
        try:
            return [placement_condition(line) for line in self.cleaned_data["placement"].splitlines() if line.strip()]
        except RunRefused as refused:
            raise forms.ValidationError(str(refused)) from refused

    def limits(self) -> dict[str, Any]:
        """What was typed as limits, and for a swarm as conditions and reservations; empty fields keep the default."""
        typed = {reporter: self._typed(reporter, DEFAULT_LIMITS) for reporter in ("server", "client")}
        return {**typed, "placement": self.cleaned_data["placement"], "reservations": self._typed("reserve", RESERVED)}

    def _typed(self, prefix: str, names: Iterable[str]) -> dict[str, float]:
        values = {name: self.cleaned_data.get(f"{prefix}_{name}") for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def overrides(self) -> dict[str, str]:
        """The values that differ from the chosen configuration's, as they were typed."""
        return overrides_of(self.source, self.data)

    @property
    def source(self) -> Configuration | Run:
        """What the run is to be made from."""
        source: Configuration | Run = self.repeats or self.cleaned_data["configuration"]
        return source


def overrides_of(configuration: Configuration | Run, data: Any) -> dict[str, str]:
    """The values of ``data`` that differ from the configuration's, by ``section.name``."""
    return {
        row.field.removeprefix(OVERRIDE_PREFIX): row.text
        for section in parameter_sections(configuration, data)
        for row in section.rows
        if row.changed
    }
