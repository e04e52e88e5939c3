"""Pages of sweeps: the list of a project, a new one, and one with its runs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from configurations.models import Configuration
from devices.models import Device
from mlops_site.lists import listing
from runs.access import CHANGING_ROLES, membership_for_user, project_for_run
from runs.device_choice import devices_now
from runs.forms import parameter_sections
from runs.lifecycle.effects import task_send
from runs.states import RunState
from runs.telemetry.best import more_is_better
from sweeps.advance import sweep_stop
from sweeps.forms import SweepForm
from sweeps.models import Sweep, Trial
from sweeps.tasks import ADVANCE


@require_safe
def sweep_list(request: HttpRequest, project_id: int) -> HttpResponse:
    membership = membership_for_user(request.user, project_id)
    sweeps = membership.project.sweeps.select_related("created_by").annotate(
        trial_count=Count("trials"),
        ended_count=Count("trials", filter=Q(trials__run__state__in=RunState.ended()) | ~Q(trials__problem="")),
    )
    rows = listing(
        request,
        sweeps,
        search=["name"],
        sorts={"name": "name", "state": "state", "created": "created_at"},
        default_sort="-created",
    )
    can_run = membership.role in CHANGING_ROLES
    return render(
        request, "sweeps/sweep_list.html", {"project": membership.project, "listing": rows, "can_run": can_run}
    )


@require_http_methods(["GET", "HEAD", "POST"])
def sweep_new(request: HttpRequest, project_id: int) -> HttpResponse:
    project = project_for_run(request.user, project_id)
    configurations = Configuration.objects.visible_to(request.user)
    devices = devices_now(Device.objects.of_project(project).select_related("owner").order_by("name"))
    chosen = request.GET.get("configuration")
    form = SweepForm(
        request.POST or None, configurations=configurations, devices=devices, initial={"configuration": chosen}
    )
    if request.method == "POST" and form.is_valid():
        return redirect(_make(request, project_id, form.cleaned_data))
    ticked = set(request.POST.getlist("devices"))
    context = {
        "project": project,
        "form": form,
        "devices": [(now, str(now.device.pk) in ticked) for now in devices],
        **_values_context(request, form["configuration"].value()),
    }
    return render(request, "sweeps/sweep_form.html", context)


@require_safe
def sweep_values(request: HttpRequest, project_id: int) -> HttpResponse:
    """The fragment with a field for each value of the chosen configuration."""
    project_for_run(request.user, project_id)
    return render(request, "sweeps/_sweep_values.html", _values_context(request, request.GET.get("configuration")))


@require_safe
def sweep_detail(request: HttpRequest, project_id: int, sweep_id: int) -> HttpResponse:
    """The sweep with its runs, the best first marked; htmx asks for the table alone when a run has changed."""
    membership = membership_for_user(request.user, project_id)
    sweep = get_object_or_404(membership.project.sweeps.select_related("created_by", "configuration"), pk=sweep_id)
    trials = list(sweep.trials.select_related("run"))
    context = {
        "project": membership.project,
        "sweep": sweep,
        "parameters": [name.partition(".")[2] for name in sweep.parameters],
        "trials": [(trial, [trial.values.get(name, "") for name in sweep.parameters]) for trial in trials],
        "best": _best(trials),
        "ended": sum(1 for trial in trials if trial.problem or (trial.run and trial.run.state in RunState.ended())),
        "can_run": membership.role in CHANGING_ROLES,
    }
    template = "sweeps/_sweep_trials.html" if getattr(request, "htmx", False) else "sweeps/sweep_detail.html"
    return render(request, template, context)


@require_POST
def sweep_end(request: HttpRequest, project_id: int, sweep_id: int) -> HttpResponse:
    project = project_for_run(request.user, project_id)
    sweep = get_object_or_404(project.sweeps, pk=sweep_id)
    sweep_stop(sweep, request.user)
    messages.success(request, f"{sweep} makes no more runs; those under way are told to stop.")
    return redirect(sweep)


def _make(request: HttpRequest, project_id: int, cleaned: dict[str, Any]) -> Sweep:
    user: Any = request.user
    with transaction.atomic():
        sweep = Sweep.objects.create(
            project_id=project_id,
            name=cleaned["name"],
            configuration=cleaned["configuration"],
            parameters=cleaned["parameters"],
            device_ids=cleaned["devices"],
            devices_per_run=cleaned["devices_per_run"],
            concurrency=cleaned["concurrency"],
            created_by=user,
        )
        Trial.objects.bulk_create(
            Trial(sweep=sweep, position=position, values=values) for position, values in enumerate(cleaned["plan"])
        )
        task_send(ADVANCE)
    return sweep


def _values_context(request: HttpRequest, configuration_id: Any) -> dict[str, Any]:
    if not str(configuration_id or "").isdecimal():
        return {"configuration": None}
    configuration = Configuration.objects.visible_to(request.user).filter(pk=configuration_id).first()
    if configuration is None:
        return {"configuration": None}
    data = request.POST if request.method == "POST" else None
    sections = parameter_sections(configuration, data)
    if data is None:
        for section in sections:
            section.rows[:] = [row.emptied() for row in section.rows]
    return {"configuration": configuration, "sections": sections}


def _best(trials: list[Trial]) -> int | None:
    """The trial with the best result, where the runs report one metric and its name tells what is better."""
    found = [(trial.pk, trial.run.best_metric) for trial in trials if trial.run and trial.run.best_metric]
    names = {metric["name"] for _, metric in found}
    if len(names) != 1:
        return None
    more = more_is_better(names.pop())
    if more is None:
        return None
    return (max if more else min)(found, key=lambda row: row[1]["value"])[0]


urlpatterns = [
    path("projects/<int:project_id>/sweeps/", sweep_list, name="sweep_list"),
    path("projects/<int:project_id>/sweeps/new/", sweep_new, name="sweep_create"),
    path("projects/<int:project_id>/sweeps/new/values/", sweep_values, name="sweep_values"),
    path("projects/<int:project_id>/sweeps/<int:sweep_id>/", sweep_detail, name="sweep_detail"),
    path("projects/<int:project_id>/sweeps/<int:sweep_id>/stop/", sweep_end, name="sweep_stop"),
]
