"""The form of a configuration. Its rows are in ``row_fields``; what it would save is a ``ConfigurationDraft``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core import signing
from django.http import QueryDict

from configurations.access import package_for_user, projects_to_share_with
from configurations.draft import (
    EXAMPLE_DATA_URL,
    NAME_MAX,
    PATH_MAX,
    URL_MAX,
    ConfigurationDraft,
    EntryPreview,
    UploadedData,
    entry_preview,
    rows_autofill,
)
from configurations.models import Package
from configurations.problems import Problem
from configurations.row_fields import (
    PACKAGE_KINDS,
    SectionFields,
    compare,
    fields_from_rows,
    place_problems,
    row_action,
    rows_of,
    sections_from_post,
)
from configurations.rows import SECTIONS

_DATA_SALT = "configurations.synthetic-data"
FORM_FIELDS = ("name", "private_data_path", "synthetic_data_url")


def data_token(data: UploadedData, user: User) -> str:
    """Return what a form carries of uploaded data: only who uploaded the bytes can make a configuration of them."""
    return signing.dumps({**asdict(data), "user": user.pk}, salt=_DATA_SALT, compress=True)


def data_from_token(token: str, user: User) -> UploadedData | None:
    """Return the uploaded data of a token that was made for ``user``, or None."""
    try:
        value = signing.loads(token, salt=_DATA_SALT)
    except signing.BadSignature:
        return None
    if value.pop("user") != user.pk:
        return None
    return UploadedData(**value)


class ConfigurationForm(forms.Form):
    """Everything of a configuration but its rows. Package fields hold a sha256, the data field a token."""

    name = forms.CharField(
        max_length=NAME_MAX, widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "FedAvg on digits"})
    )
    project: forms.ModelChoiceField[Any] = forms.ModelChoiceField(
        queryset=None,
        required=False,
        label="Share with",
        empty_label="Nobody: only I see it",
        help_text="Members of the project see it, start runs with it and clone it. You alone edit it.",
    )
    server_package = forms.CharField(
        widget=forms.HiddenInput, error_messages={"required": "Upload the server package."}
    )
    client_package = forms.CharField(
        widget=forms.HiddenInput, error_messages={"required": "Upload the client package."}
    )
    private_data_path = forms.CharField(
        max_length=PATH_MAX,
        required=False,
        label="Private data path",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "digits", "spellcheck": "false"}),
        help_text="A file (.npz or .csv) or folder below each device's own data folder. It never leaves the device.",
    )
    synthetic_data_url = forms.CharField(
        max_length=URL_MAX,
        required=False,
        label="Synthetic data URL",
        widget=forms.URLInput(attrs={"autocomplete": "off", "placeholder": "https://example.org/digits.npz"}),
        help_text="Every client downloads its training data from there, unless you upload a file below.",
    )
    synthetic_data = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(
        self,
        data: QueryDict | None = None,
        *,
        user: User,
        draft: ConfigurationDraft | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        """Fill the form from what was posted, or else from ``draft`` (a configuration to edit or clone)."""
        super().__init__(data, initial=self._initial(draft, user) if draft else initial)
        self.user = user
        self.fields["project"].queryset = projects_to_share_with(user)  # type: ignore[attr-defined]
        self.problems: list[Problem] = []
        self.packages = {kind: self._package(kind) for kind in PACKAGE_KINDS}
        self.data_upload = data_from_token(self["synthetic_data"].value() or "", user)
        if data is not None:
            self.sections = sections_from_post(data)
        else:
            self.sections = [
                SectionFields(name, fields_from_rows(getattr(draft, name) if draft else [])) for name in SECTIONS
            ]
        self.focus = ""

    @staticmethod
    def _initial(draft: ConfigurationDraft, user: User) -> dict[str, Any]:
        return {
            "name": draft.name,
            "project": draft.project,
            "server_package": draft.server_package.sha256,
            "client_package": draft.client_package.sha256,
            "private_data_path": draft.private_data_path,
            "synthetic_data_url": draft.synthetic_data_url,
            "synthetic_data": data_token(draft.synthetic_data, user) if draft.synthetic_data else "",
        }

    def _package(self, kind: str, sha256: str | None = None) -> Package | None:
        sha256 = self[f"{kind}_package"].value() if sha256 is None else sha256
        if not sha256:
            return None
        return package_for_user(self.user, kind, sha256)

    @property
    def manifests(self) -> dict[str, dict[str, Any] | None]:
        """The manifests of the two packages, None for one that is not there yet."""
        return {kind: package.manifest if package else None for kind, package in self.packages.items()}

    def clean_synthetic_data(self) -> str:
        token: str = self.cleaned_data["synthetic_data"]
        if token and self.data_upload is None:
            raise forms.ValidationError("The uploaded data are not known any more. Upload them again.")
        return token

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for kind in PACKAGE_KINDS:
            if cleaned.get(f"{kind}_package") and self.packages[kind] is None:
                self.add_error(f"{kind}_package", f"This {kind} package is not in the store any more. Upload it again.")
        for section in self.sections:
            self.problems += rows_of(section)[1]
        if not self.errors and not self.problems:
            self.problems = self.draft().problems()
            for problem in self.problems:
                if problem.file in FORM_FIELDS:
                    self.add_error(problem.file, f"{problem.message} {problem.fix}")
            self.problems = [problem for problem in self.problems if problem.file not in FORM_FIELDS]
            place_problems(self.problems, self.sections)
        if self.problems and not self.errors:
            self.add_error(None, "These values need your attention; nothing is saved yet.")
        return cleaned

    @property
    def wrong_fields(self) -> list[tuple[str, str]]:
        """Label and error of every field that is not right, for the summary at the top of the page."""
        return [
            (str(self.fields[name].label or name.replace("_", " ").capitalize()), str(error))
            for name, errors in self.errors.items()
            if name in self.fields
            for error in errors
        ]

    def refuse(self, problems: list[Problem]) -> None:
        """Show what the save refused."""
        for problem in problems:
            self.add_error(problem.file if problem.file in FORM_FIELDS else None, f"{problem.message} {problem.fix}")

    def draft(self) -> ConfigurationDraft:
        """Return what the cleaned form would save."""
        server, client = self.packages["server"], self.packages["client"]
        if server is None or client is None:
            raise ValueError("A configuration needs both packages; the form is not valid.")
        rows = {section.name: rows_of(section)[0] for section in self.sections}
        return ConfigurationDraft(
            name=self.cleaned_data["name"],
            project=self.cleaned_data.get("project"),
            server_package=server,
            client_package=client,
            model_config=rows["model_config"],
            hyperparameters_config=rows["hyperparameters_config"],
            private_data_path=self.cleaned_data["private_data_path"],
            synthetic_data_url=self.cleaned_data["synthetic_data_url"],
            synthetic_data=self.data_upload,
        )

    def act(self, data: QueryDict) -> None:
        """Do what a button asks for: fill in the rows of a package that came in, or add, remove or change a row."""
        kind = data.get("package_new", "")
        if kind not in PACKAGE_KINDS:
            self.focus = row_action(self.sections, data, self.manifests)
            return
        replaced = self._package(kind, data.get("package_before", ""))
        other = self.packages["client" if kind == "server" else "server"]
        before = replaced or other
        for section in self.sections:
            rows = rows_autofill(
                section.name,
                rows_of(section)[0],
                server=self.manifests["server"],
                client=self.manifests["client"],
                before=before.manifest if before else None,
            )
            section.rows = fields_from_rows(rows)

    def previews(self) -> list[EntryPreview]:
        """Return what the packages that are there would be started with, by the rows as they stand.

        Compares the rows with the packages, and puts errors of their expressions beside them.
        """
        rows = {section.name: rows_of(section)[0] for section in self.sections}
        url = EXAMPLE_DATA_URL if self.data_upload else self["synthetic_data_url"].value() or ""
        previews = [
            entry_preview(
                manifest,
                rows["model_config"],
                rows["hyperparameters_config"],
                private_data_path=self["private_data_path"].value() or "",
                synthetic_data_url=url,
            )
            for manifest in self.manifests.values()
            if manifest
        ]
        for section in self.sections:
            compare(section, self.manifests)
        for preview in previews:
            place_problems([error.problem for error in preview.errors], self.sections)
        return previews
