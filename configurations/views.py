"""The pages of configurations."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from configurations.access import configuration_for_user
from configurations.draft import ConfigurationDraft, EntryPreview, arguments_shown, same_value
from configurations.forms import ConfigurationForm
from configurations.lists import CONFIGURATIONS, configurations_listed
from configurations.models import Configuration
from configurations.rows import ROW_TYPES, value_text
from configurations.services import (
    ConfigurationRefused,
    clone_draft,
    configuration_create,
    configuration_delete,
    configuration_update,
)
from mlops_site.lists import listing_by

RUNS_SHOWN = 10


def _user(request: HttpRequest) -> User:
    """The signed-in user; every view here requires one."""
    return cast(User, request.user)


@require_safe
def configuration_list(request: HttpRequest) -> HttpResponse:
    """Every configuration that the user sees, with search, sort and pages."""
    found = listing_by(request, configurations_listed(_user(request)), CONFIGURATIONS)
    return render(request, "configurations/configuration_list.html", {"listing": found})


@require_safe
def configuration_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """What a configuration is made of, what its commands would be, and the runs that were made of it."""
    user = _user(request)
    configuration = configuration_for_user(user, pk)
    runs = configuration.runs.visible_to(user).select_related("project").order_by("-created_at", "-pk")
    context = {
        "configuration": configuration,
        "is_owner": configuration.owner_id == user.pk,
        "model": _section_shown(configuration, "model_config"),
        "hyperparameters": _section_shown(configuration, "hyperparameters_config"),
        **_preview_context(ConfigurationDraft.of(configuration).previews()),
        "runs": runs[:RUNS_SHOWN],
        "run_count": runs.count(),
    }
    return render(request, "configurations/configuration_detail.html", context)


def _section_shown(configuration: Configuration, section: str) -> list[dict[str, Any]]:
    """The rows of a section, with what the server package says where that is something else."""
    offered = {row["name"]: row["value"] for row in configuration.server_package.manifest[section]}
    return [
        {
            "name": row["name"],
            "type": ROW_TYPES[row["type"]],
            "text": value_text(row["value"]),
            "package_text": value_text(offered[row["name"]])
            if row["name"] in offered and not same_value(offered[row["name"]], row["value"])
            else None,
        }
        for row in getattr(configuration, section)
    ]


def _preview_context(previews: list[EntryPreview]) -> dict[str, Any]:
    problems = dict.fromkeys(error.problem for preview in previews for error in preview.errors)
    return {"previews": previews, "arguments": arguments_shown(previews), "preview_problems": list(problems)}


@require_http_methods(["GET", "HEAD", "POST"])
def configuration_create_view(request: HttpRequest) -> HttpResponse:
    """A new configuration."""
    user = _user(request)
    form = ConfigurationForm(
        request.POST if request.method == "POST" else None,
        user=user,
        initial={"project": request.GET.get("project")},
    )
    return _form_page(request, form, None)


@require_http_methods(["GET", "HEAD", "POST"])
def configuration_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """New values of a configuration."""
    user = _user(request)
    configuration = configuration_for_user(user, pk, change=True)
    form = ConfigurationForm(
        request.POST if request.method == "POST" else None, user=user, draft=ConfigurationDraft.of(configuration)
    )
    return _form_page(request, form, configuration)


@require_safe
def configuration_clone(request: HttpRequest, pk: int) -> HttpResponse:
    """The form of a new configuration, filled with the values of another one. Nothing is saved yet."""
    user = _user(request)
    configuration = configuration_for_user(user, pk)
    form = ConfigurationForm(user=user, draft=clone_draft(configuration, owner=user))
    return _form_page(request, form, None, cloned=configuration)


def _form_page(
    request: HttpRequest,
    form: ConfigurationForm,
    configuration: Configuration | None,
    *,
    cloned: Configuration | None = None,
) -> HttpResponse:
    """Save the form where it is valid; show it otherwise, with everything that was typed."""
    if form.is_valid():
        try:
            if configuration is None:
                saved = configuration_create(form.draft(), owner=form.user)
            else:
                saved = configuration_update(configuration, form.draft())
        except ConfigurationRefused as refusal:
            form.refuse(refusal.problems)
        else:
            messages.success(request, f"{saved.name} is saved.")
            return redirect(saved)
    context = {**_draft_context(form), "configuration": configuration, "cloned": cloned}
    return render(request, "configurations/configuration_form.html", context)


def _draft_context(form: ConfigurationForm) -> dict[str, Any]:
    return {
        "form": form,
        **_preview_context(form.previews()),
        "row_types": ROW_TYPES,
        "packages": [("server", form.packages["server"]), ("client", form.packages["client"])],
    }


@require_POST
def configuration_draft(request: HttpRequest) -> HttpResponse:
    """The fragment with rows and commands of a form that is being filled in, after the button that was pressed."""
    form = ConfigurationForm(request.POST, user=_user(request))
    form.act(request.POST)
    return render(request, "configurations/_draft.html", {**_draft_context(form), "fragment": True})


@require_POST
def configuration_preview(request: HttpRequest) -> HttpResponse:
    """The fragment with the commands that a form, as it stands, comes to. Nothing is saved."""
    form = ConfigurationForm(request.POST, user=_user(request))
    return render(request, "configurations/_preview.html", _preview_context(form.previews()))


@require_http_methods(["GET", "HEAD", "POST"])
def configuration_delete_view(request: HttpRequest, pk: int) -> HttpResponse:
    """Say what is lost, and delete the configuration."""
    configuration = configuration_for_user(_user(request), pk, change=True)
    refusal = None
    if request.method == "POST":
        try:
            configuration_delete(configuration)
        except ConfigurationRefused as error:
            refusal = error
        else:
            messages.success(request, f"{configuration.name} is deleted.")
            return redirect("configuration_list")
    context = {
        "configuration": configuration,
        "active_runs": configuration.runs.active().order_by("pk"),
        "value_count": len(configuration.model_config) + len(configuration.hyperparameters_config),
        "other_run_count": configuration.runs.exclude(pk__in=configuration.runs.active()).count(),
        "refusal": refusal,
    }
    status = 409 if refusal else 200
    return render(request, "configurations/configuration_confirm_delete.html", context, status=status)
