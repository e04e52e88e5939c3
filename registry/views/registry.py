"""A project's registry: its promoted models, their versions, their history, and two models beside each other."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Count, Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from configurations import store
from mlops_site.downloads import file_response
from mlops_site.lists import listing
from registry.models import ModelStage, ModelVersion, RegisteredModel, VersionChange, shown_metrics
from registry.services import PromotionRefused, version_change
from runs.access import CHANGING_ROLES, membership_for_user
from runs.models import ModelKind, Project, StoredModel

CHANGES_SHOWN = 50
OFFERED = 100  # models in the choice of two


@require_safe
def registry(request: HttpRequest, project_id: int) -> HttpResponse:
    """The promoted models of a project, and who did what to them last."""
    project = membership_for_user(request.user, project_id).project
    versions = ModelVersion.objects.select_related("created_by")
    models = RegisteredModel.objects.filter(project=project).annotate(version_count=Count("versions"))
    rows = listing(
        request,
        models.prefetch_related(Prefetch("versions", queryset=versions)),
        search=["name"],
        sorts={"name": "name", "versions": "version_count", "created": "created_at"},
        default_sort="name",
    )
    changes = VersionChange.objects.filter(version__registered__project=project)
    context = {
        "project": project,
        "listing": rows,
        "changes": changes.select_related("user", "version__registered")[:CHANGES_SHOWN],
    }
    return render(request, "registry/registry.html", context)


@require_safe
def registered_model(request: HttpRequest, project_id: int, registered_id: int) -> HttpResponse:
    """One promoted model with its versions and their history."""
    membership = membership_for_user(request.user, project_id)
    registered = get_object_or_404(RegisteredModel, pk=registered_id, project=membership.project)
    versions = list(registered.versions.select_related("created_by", "source__run"))
    context = {
        "project": membership.project,
        "registered": registered,
        "versions": versions,
        "metric_names": shown_metrics(*(version.metrics for version in versions))[:4],
        "stages": ModelStage.choices,
        "can_change": membership.role in CHANGING_ROLES,
        "changes": VersionChange.objects.filter(version__registered=registered).select_related("user", "version"),
    }
    return render(request, "registry/registered_model.html", context)


@require_POST
def version_edit(request: HttpRequest, project_id: int, version_id: int) -> HttpResponse:
    """Change the stage and the notes of a version."""
    project = membership_for_user(request.user, project_id).project
    version = _version(project, version_id)
    try:
        version_change(
            version=version,
            user=request.user,
            stage=request.POST.get("stage", ""),
            notes=request.POST.get("notes", ""),
        )
    except PromotionRefused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{version} is saved.")
    return redirect(version.registered)


@require_safe
def version_download(request: HttpRequest, project_id: int, version_id: int) -> HttpResponseBase:
    """Send the weights of a version."""
    version = _version(membership_for_user(request.user, project_id).project, version_id)
    name = "".join(letter if letter.isalnum() else "-" for letter in version.registered.name)
    try:
        path_ = store.local_path(version.storage_name)
    except FileNotFoundError:
        raise Http404("The weights of this version are missing in the store.") from None
    return file_response(request, path_, file_name=f"{name}-v{version.number}.safetensors")


@require_safe
def models_compare(request: HttpRequest, project_id: int) -> HttpResponse:
    """Two models of the project beside each other: ``?a=ID&b=ID``, ids of stored models."""
    project = membership_for_user(request.user, project_id).project
    first, second = (_model(project, request.GET.get(side, "")) for side in ("a", "b"))
    two = [first, second]
    offered = StoredModel.objects.filter(run__project=project, kind=ModelKind.AGGREGATED).select_related("run")
    choices = list(offered.order_by("-pk")[:OFFERED])
    known = {model.pk for model in choices}
    choices = [*(model for model in two if model is not None and model.pk not in known), *choices]
    context = {
        "project": project,
        "two": two,
        "sides": list(zip(("a", "b"), two, strict=True)),
        "choices": choices,
        "rows": _metric_rows(first, second) if first and second else [],
        "same": bool(first and second and first.sha256 == second.sha256),
    }
    return render(request, "registry/compare.html", context)


def _metric_rows(first: StoredModel, second: StoredModel) -> list[dict[str, Any]]:
    rows = []
    for name in shown_metrics(first.metrics, second.metrics):
        values = first.metrics.get(name), second.metrics.get(name)
        both = all(isinstance(value, int | float) for value in values)
        rows.append({"name": name, "values": values, "difference": values[1] - values[0] if both else None})
    return rows


def _model(project: Project, text: str) -> StoredModel | None:
    if not text.isdecimal():
        return None
    models = StoredModel.objects.select_related("run__project").prefetch_related("versions__registered")
    return get_object_or_404(models, pk=text, run__project=project)


def _version(project: Project, version_id: int) -> ModelVersion:
    versions = ModelVersion.objects.select_related("registered__project")
    return get_object_or_404(versions, pk=version_id, registered__project=project)


urlpatterns = [
    path("projects/<int:project_id>/models/", registry, name="project_registry"),
    path("projects/<int:project_id>/models/compare/", models_compare, name="project_models_compare"),
    path("projects/<int:project_id>/models/<int:registered_id>/", registered_model, name="registered_model"),
    path("projects/<int:project_id>/models/versions/<int:version_id>/", version_edit, name="model_version_edit"),
    path(
        "projects/<int:project_id>/models/versions/<int:version_id>/download",
        version_download,
        name="model_version_download",
    ),
]
