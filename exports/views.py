"""What of a run can be taken along: tables, event files, a copy on an MLflow server."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_safe

from exports.downloads import csv_response, json_response, tensorboard_response
from exports.forms import MlflowForm
from exports.models import MlflowExport
from exports.tasks import SEND
from mlops_site.celery import BUILDS_QUEUE
from runs.access import run_for_change, run_for_user, run_may_change
from runs.lifecycle.effects import task_send

EXPORTS_SHOWN = 10


@require_http_methods(["GET", "HEAD", "POST"])
def run_export(request: HttpRequest, run_id: int) -> HttpResponse:
    """The page; POST sends the run to an MLflow server."""
    run = run_for_change(request.user, run_id) if request.method == "POST" else run_for_user(request.user, run_id)
    form = MlflowForm(request.POST or None, initial={"experiment": run.project.name})
    if request.method == "POST" and form.is_valid():
        user: Any = request.user
        export = MlflowExport.objects.create(run=run, created_by=user, **form.cleaned_data)
        task_send(SEND, queue=BUILDS_QUEUE, export_id=export.pk)  # it may take long
        return redirect("run_export", run.pk)
    exports = list(run.mlflow_exports.select_related("created_by")[:EXPORTS_SHOWN])
    context = {
        "run": run,
        "form": form,
        "exports": exports,
        "under_way": any(export.state in ("waiting", "sending") for export in exports),
        "can_change": run_may_change(run, request.user),
    }
    template = "exports/_exports.html" if getattr(request, "htmx", False) else "exports/run_export.html"
    return render(request, template, context)


@require_safe
def run_csv(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """Every point of the run as a table."""
    return csv_response(request, run_for_user(request.user, run_id))


@require_safe
def run_json(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """The run with its configuration, models and every point as JSON."""
    return json_response(request, run_for_user(request.user, run_id))


@require_safe
def run_tensorboard(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """TensorBoard event files in an archive."""
    return tensorboard_response(request, run_for_user(request.user, run_id))


urlpatterns = [
    path("runs/<int:run_id>/export/", run_export, name="run_export"),
    path("runs/<int:run_id>/export/points.csv", run_csv, name="run_csv"),
    path("runs/<int:run_id>/export/run.json", run_json, name="run_json"),
    path("runs/<int:run_id>/export/tensorboard.zip", run_tensorboard, name="run_tensorboard"),
]
