"""What of a run can be taken along: tables, event files, a copy on an MLflow server."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_safe

from exports.forms import MlflowForm
from exports.models import MlflowExport
from exports.tables import csv_pieces, json_pieces
from exports.tasks import SEND
from exports.tensorboard import tensorboard_archive
from mlops_site.downloads import file_response
from runs.access import run_for_change, run_for_user, run_may_change
from runs.lifecycle.effects import task_send
from runs.models import Run

EXPORTS_SHOWN = 10


@require_http_methods(["GET", "HEAD", "POST"])
def run_export(request: HttpRequest, run_id: int) -> HttpResponse:
    """The page; POST sends the run to an MLflow server."""
    run = run_for_change(request.user, run_id) if request.method == "POST" else run_for_user(request.user, run_id)
    form = MlflowForm(request.POST or None, initial={"experiment": run.project.name})
    if request.method == "POST" and form.is_valid():
        user: Any = request.user
        export = MlflowExport.objects.create(run=run, created_by=user, **form.cleaned_data)
        task_send(SEND, export_id=export.pk)
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
    return _streamed(request, run_for_user(request.user, run_id), csv_pieces, "csv", "text/csv; charset=utf-8")


@require_safe
def run_json(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """The run with its configuration, models and every point as JSON."""
    return _streamed(request, run_for_user(request.user, run_id), json_pieces, "json", "application/json")


@require_safe
def run_tensorboard(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """TensorBoard event files in an archive."""
    run = run_for_user(request.user, run_id)
    folder = Path(tempfile.mkdtemp(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="export-"))
    try:
        with tensorboard_archive(run) as made:
            kept = made.rename(folder / made.name)
        return file_response(request, kept, file_name=f"{_name(run)}-tensorboard.zip", content_type="application/zip")
    finally:
        shutil.rmtree(folder)  # what is open can still be read


def _streamed(
    request: HttpRequest, run: Run, pieces: Callable[[Run], Iterator[bytes]], suffix: str, content_type: str
) -> StreamingHttpResponse:
    iterator = pieces(run)
    return StreamingHttpResponse(
        _pieces_async(iterator) if isinstance(request, ASGIRequest) else iterator,
        content_type=content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{_name(run)}.{suffix}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


async def _pieces_async(iterator: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(lambda: next(iterator, None))
    while (piece := await take()) is not None:
        yield piece


def _name(run: Run) -> str:
    """A file name without anything that a header or a file system could take amiss."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.name).strip("-.") or f"run-{run.pk}"


urlpatterns = [
    path("runs/<int:run_id>/export/", run_export, name="run_export"),
    path("runs/<int:run_id>/export/points.csv", run_csv, name="run_csv"),
    path("runs/<int:run_id>/export/run.json", run_json, name="run_json"),
    path("runs/<int:run_id>/export/tensorboard.zip", run_tensorboard, name="run_tensorboard"),
]
