"""What came from what: the Lineage tab of a run, the page of a model and that of a package."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from configurations.models import Configuration, Package
from registry.models import ModelStage, ModelVersion, RegisteredModel
from registry.services import PromotionRefused, model_promote
from runs.access import run_for_user, run_may_change
from runs.models import ModelKind, Run, Stage, StageName, StoredModel

SHOWN = 50  # of each kind on a page
IMAGE_KINDS = {StageName.PUSH_SERVER: "server", StageName.PUSH_CLIENT: "client"}


@require_safe
def run_lineage(request: HttpRequest, run_id: int) -> HttpResponse:
    """The fragment with what the run was made from, what it made, and what was made from that."""
    run = run_for_user(request.user, run_id)
    aggregated = run.models.filter(kind=ModelKind.AGGREGATED, round_index__gte=0)
    best = run.best_metric or {}
    context = {
        "run": run,
        "packages": [
            {"package": package, "images": _images([run], kind)}
            for kind, package in (("server", run.server_package), ("client", run.client_package))
        ],
        "parts": run.run_devices.select_related("device")[: SHOWN + 1],
        "device_count": run.run_devices.count(),
        "latest": aggregated.first(),
        "best": aggregated.filter(round_index=best["round"]).first() if best.get("round") is not None else None,
        "best_metric": best,
        "model_count": run.models.count(),
        "versions": ModelVersion.objects.filter(source__run=run).select_related("registered", "source")[:SHOWN],
        "repeats": run.children.order_by("-pk")[:SHOWN],
        "continued": Run.objects.filter(initial_model__run=run).select_related("initial_model")[:SHOWN],
    }
    return render(request, "registry/_lineage.html", context)


@require_safe
def model_detail(request: HttpRequest, run_id: int, model_id: int) -> HttpResponse:
    """A stored model: its digest and figures, what it was made from, and what was made from it."""
    run = run_for_user(request.user, run_id)
    model = get_object_or_404(run.models, pk=model_id)
    context = {
        "run": run,
        "model": model,
        "device": run.run_devices.filter(edge_id=model.edge_id).select_related("device").first(),
        "round": run.rounds.filter(round_index=model.round_index).first(),
        "sources": _sources(run, model)[:SHOWN],
        "continued": Run.objects.filter(initial_model=model, project=run.project)[:SHOWN],
        "same": StoredModel.objects.filter(run__project=run.project, sha256=model.sha256)
        .exclude(pk=model.pk)
        .select_related("run")[:SHOWN],
        "versions": model.versions.select_related("registered"),
        "names": RegisteredModel.objects.filter(project=run.project).values_list("name", flat=True)[:200],
        "stages": ModelStage.choices,
        "can_change": run_may_change(run, request.user),
    }
    return render(request, "registry/model.html", context)


@require_POST
def promote(request: HttpRequest, run_id: int, model_id: int) -> HttpResponse:
    """Put the model into the project's registry."""
    run = run_for_user(request.user, run_id)
    model = get_object_or_404(run.models.select_related("run__project"), pk=model_id)
    fields = {name: request.POST.get(name, "") for name in ("name", "stage", "notes")}
    try:
        version = model_promote(model=model, user=request.user, **fields)
    except PromotionRefused as refused:
        messages.error(request, str(refused))
        return redirect("model_detail", run.pk, model.pk)
    messages.success(request, f"{version} is in the registry as {ModelStage(version.stage).label.lower()}.")
    return redirect(version.registered)


@require_safe
def package_detail(request: HttpRequest, package_id: int) -> HttpResponse:
    """A package: its digest and contents, and what was made from it."""
    runs = Run.objects.visible_to(request.user).filter(Q(server_package=package_id) | Q(client_package=package_id))
    package = Package.objects.filter(pk=package_id).first()
    visible = Package.objects.visible_to(request.user).filter(pk=package_id).exists() or runs.exists()
    if package is None or not visible:
        raise Http404("There is no such package.")
    configurations = Configuration.objects.visible_to(request.user)
    some = list(runs.select_related("project")[:SHOWN])
    context = {
        "package": package,
        "run_count": runs.count(),
        "runs": some,
        "images": _images(some, package.kind),
        "configurations": configurations.filter(Q(server_package=package) | Q(client_package=package))[:SHOWN],
    }
    return render(request, "registry/package.html", context)


def _sources(run: Run, model: StoredModel) -> Any:
    """The models of which a model was made: the clients' of its round, or the aggregated one of the round before."""
    if model.round_index < 0:
        return StoredModel.objects.filter(pk=run.initial_model_id or 0).select_related("run")
    if model.kind == ModelKind.AGGREGATED:
        return run.models.filter(kind=ModelKind.CLIENT, round_index=model.round_index).select_related("run")
    return run.models.filter(kind=ModelKind.AGGREGATED, round_index=model.round_index - 1).select_related("run")


def _images(runs: list[Run], kind: str) -> list[str]:
    """The images that were published for these runs from their package of a kind, by digest."""
    names = [name for name, of in IMAGE_KINDS.items() if of == kind]
    stages = Stage.objects.filter(run__in=runs, name__in=names)
    return sorted(
        {str(result["reference"]) for result in stages.values_list("result", flat=True) if "reference" in result}
    )


urlpatterns = [
    path("runs/<int:run_id>/lineage/", run_lineage, name="run_lineage"),
    path("runs/<int:run_id>/models/<int:model_id>/", model_detail, name="model_detail"),
    path("runs/<int:run_id>/models/<int:model_id>/promote/", promote, name="model_promote"),
    path("packages/<int:package_id>/", package_detail, name="package_detail"),
]
