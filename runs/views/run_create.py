"""The form of a new run: configuration, devices, values for this run alone, limits, and what would be started."""

from __future__ import annotations

import shlex
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from configurations.models import Configuration
from devices.models import Device
from runs import lifecycle
from runs.access import project_for_run
from runs.device_choice import devices_now, state_counts
from runs.forms import RunForm, overrides_of, parameter_sections
from runs.models import Project
from runs.names import run_name_suggest
from runs.pipeline.backend_choice import backend_choice
from runs.pipeline.backends import BackendUnknown


def _configurations(user: Any) -> QuerySet[Configuration]:
    return Configuration.objects.visible_to(user).select_related("server_package", "client_package", "owner")


@require_http_methods(["GET", "HEAD", "POST"])
def run_new(request: HttpRequest, project_id: int) -> HttpResponse:
    """Show the form, or create the run and, where asked, start it."""
    project = project_for_run(request.user, project_id)
    devices = devices_now(Device.objects.of_project(project).select_related("owner").order_by("name"))
    form = RunForm(
        request.POST or None,
        configurations=_configurations(request.user),
        devices=devices,
        initial={"configuration": request.GET.get("configuration")},
    )
    if form.is_valid() and (response := _create(request, project, form)):
        return response
    chosen = set(request.POST.getlist("devices"))
    context = {
        "project": project,
        "form": form,
        "devices": [(now, str(now.device.pk) in chosen) for now in devices],
        "counts": state_counts(devices),
        "member_count": project.memberships.count(),
        "run_count": project.runs.count(),
        "suggested_name": run_name_suggest(),
        **_backend_context(),
        **_configuration_context(request, form["configuration"].value(), request.POST or None),
    }
    return render(request, "runs/run_form.html", context)


def _create(request: HttpRequest, project: Project, form: RunForm) -> HttpResponse | None:
    """Create the run that the form describes; where that is refused, put the reason on the form and return None."""
    try:
        run = lifecycle.run_create(
            project=project,
            user=request.user,
            configuration=form.cleaned_data["configuration"],
            device_ids=form.cleaned_data["devices"],
            name=form.cleaned_data["name"],
            overrides=form.overrides(),
            limits=form.limits(),
        )
    except lifecycle.RunRefused as refused:
        form.add_error(None, str(refused))
        return None
    if "start" in request.POST:
        try:
            lifecycle.run_start(run=run, user=request.user)
        except lifecycle.RunRefused as refused:
            messages.warning(request, f"The run is created, but it could not start. {refused}")
    return redirect(run)


def _backend_context() -> dict[str, Any]:
    """Where the run would be built and its aggregator run, and why there."""
    try:
        return {"backend": backend_choice()}
    except BackendUnknown as error:
        return {"backend": None, "backend_problem": str(error)}


def _configuration_context(request: HttpRequest, configuration_id: Any, data: Any) -> dict[str, Any]:
    if not str(configuration_id or "").isdecimal():
        return {"configuration": None}
    configuration = _configurations(request.user).filter(pk=configuration_id).first()
    if configuration is None:
        return {"configuration": None}
    return {"configuration": configuration, "sections": parameter_sections(configuration, data)}


@require_safe
def run_form_configuration(request: HttpRequest, project_id: int) -> HttpResponse:
    """The fragment that shows the chosen configuration, with its values as fields."""
    project_for_run(request.user, project_id)
    context = _configuration_context(request, request.GET.get("configuration"), None)
    return render(request, "runs/_run_form_configuration.html", context)


@require_POST
def run_form_preview(request: HttpRequest, project_id: int) -> HttpResponse:
    """The fragment with the commands that the form, as it stands, would start; nothing is saved."""
    project = project_for_run(request.user, project_id)
    configuration_id = request.POST.get("configuration", "")
    device_ids = [int(value) for value in request.POST.getlist("devices") if value.isdecimal()]
    context: dict[str, Any] = {"missing": not (configuration_id.isdecimal() and device_ids)}
    if not context["missing"]:
        configuration = get_object_or_404(_configurations(request.user), pk=configuration_id)
        try:
            commands = lifecycle.run_preview(
                project=project,
                user=request.user,
                configuration=configuration,
                device_ids=device_ids,
                overrides=overrides_of(configuration, request.POST),
            )
        except lifecycle.RunRefused as refused:
            context["refused"] = str(refused)
        else:
            context["commands"] = [(label, shlex.join(command)) for label, command in commands]
    return render(request, "runs/_run_form_preview.html", context)


urlpatterns = [
    path("projects/<int:project_id>/runs/new/", run_new, name="run_create"),
    path("projects/<int:project_id>/runs/new/configuration/", run_form_configuration, name="run_form_configuration"),
    path("projects/<int:project_id>/runs/new/preview/", run_form_preview, name="run_preview"),
]
