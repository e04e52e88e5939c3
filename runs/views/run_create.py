"""The form of a new run: configuration, devices, values for this run alone, limits, and what would be started."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
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
from runs.access import project_for_run, run_for_change
from runs.device_choice import devices_now, state_counts
from runs.forms import RunForm, overrides_of, parameter_sections
from runs.models import Project, Run, StoredModel
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
    again = _again(request, project)
    form = RunForm(
        request.POST or None,
        configurations=_configurations(request.user),
        devices=devices,
        repeats=again.run,
        initial={"configuration": request.GET.get("configuration"), **again.initial()},
    )
    if form.is_valid() and (response := _create(request, project, form, again.model)):
        return response
    chosen = set(request.POST.getlist("devices")) if request.method == "POST" else again.devices()
    context = {
        "project": project,
        "form": form,
        "devices": [(now, str(now.device.pk) in chosen) for now in devices],
        "counts": state_counts(devices),
        "member_count": project.memberships.count(),
        "run_count": project.runs.count(),
        "suggested_name": run_name_suggest(),
        "again": again,
        **_backend_context(),
        **_configuration_context(request, form["configuration"].value(), request.POST or None, again.run),
    }
    return render(request, "runs/run_form.html", context)


@dataclass(frozen=True)
class _Again:
    """The run that the form repeats, and the model that the new one starts from, as ``?again=`` and ``?model=`` say."""

    run: Run | None
    model: StoredModel | None

    def devices(self) -> set[str]:
        """The devices that are chosen at first."""
        return (
            {str(edge_id) for edge_id in self.run.run_devices.values_list("edge_id", flat=True)} if self.run else set()
        )

    def initial(self) -> dict[str, Any]:
        """What stands in the form's other fields at first."""
        if self.run is None:
            return {}
        limits = self.run.limits
        values = {
            f"{reporter}_{name}": value
            for reporter in ("server", "client")
            for name, value in limits.get(reporter, {}).items()
        }
        values |= {f"reserve_{name}": value for name, value in limits.get("reservations", {}).items()}
        return {**values, "placement": "\n".join(limits.get("placement", []))}


def _again(request: HttpRequest, project: Project) -> _Again:
    """Read what is repeated from the query, or from the form that was made with it.

    Raises:
        Http404: the project has no such run or model.
    """
    sent = request.POST if request.method == "POST" else request.GET
    run_id, model_id = sent.get("again", ""), sent.get("model", "")
    run = get_object_or_404(project.runs, pk=run_id) if run_id.isdecimal() else None
    if not model_id.isdecimal():
        return _Again(run, None)
    model = get_object_or_404(StoredModel.objects.select_related("run__project"), pk=model_id, run__project=project)
    return _Again(run or model.run, model)


def _create(
    request: HttpRequest, project: Project, form: RunForm, initial_model: StoredModel | None
) -> HttpResponse | None:
    """Create the run that the form describes; where that is refused, put the reason on the form and return None."""
    try:
        run = lifecycle.run_create(
            project=project,
            user=request.user,
            configuration=form.source,
            device_ids=form.cleaned_data["devices"],
            name=form.cleaned_data["name"],
            overrides=form.overrides(),
            limits=form.limits(),
            initial_model=initial_model,
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


def _configuration_context(
    request: HttpRequest, configuration_id: Any, data: Any, repeats: Run | None = None
) -> dict[str, Any]:
    if repeats is not None:
        shown = {
            **repeats.configuration_copy,
            "server_package": repeats.server_package,
            "client_package": repeats.client_package,
        }
        return {"configuration": shown, "repeats": repeats, "sections": parameter_sections(repeats, data)}
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
    repeats = _again(request, project).run
    configuration_id = request.POST.get("configuration", "")
    device_ids = [int(value) for value in request.POST.getlist("devices") if value.isdecimal()]
    context: dict[str, Any] = {"missing": not ((repeats or configuration_id.isdecimal()) and device_ids)}
    if not context["missing"]:
        configuration = repeats or get_object_or_404(_configurations(request.user), pk=configuration_id)
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


@require_POST
def run_again(request: HttpRequest, run_id: int) -> HttpResponse:
    """Make the same run once more, on the same devices, and start it; with ``model`` from that model of it."""
    run = run_for_change(request.user, run_id)
    again = _again(request, run.project)
    try:
        made = lifecycle.run_create(
            project=run.project,
            user=request.user,
            configuration=run,
            device_ids=run.run_devices.values_list("edge_id", flat=True),
            limits=run.limits,
            initial_model=again.model,
        )
    except lifecycle.RunRefused as refused:
        messages.error(request, f"The run cannot be repeated as it is. {refused}")
        return redirect(run)
    try:
        lifecycle.run_start(run=made, user=request.user)
    except lifecycle.RunRefused as refused:
        messages.warning(request, f"The run is created, but it could not start. {refused}")
    return redirect(made)


urlpatterns = [
    path("runs/<int:run_id>/again/", run_again, name="run_again"),
    path("projects/<int:project_id>/runs/new/", run_new, name="run_create"),
    path("projects/<int:project_id>/runs/new/configuration/", run_form_configuration, name="run_form_configuration"),
    path("projects/<int:project_id>/runs/new/preview/", run_form_preview, name="run_preview"),
]
