"""The page of a run, and what its buttons do. What is live on it comes over the websocket (``runs.live``)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

import yaml
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from configurations.expressions import ExpressionError
from runs import lifecycle
from runs.access import run_for_change, run_for_user, run_may_change
from runs.lifecycle.rendering import RunDraft, run_draft
from runs.live.payloads import Item, device_item, round_item, run_item, stage_item
from runs.models import Run, Stage, StageName
from runs.states import RunState
from runs.views.chart_view import chart_views_of

COMMANDS_MAX = 100  # shown on the Configuration tab

TABS = [
    {"name": "overview", "label": "Overview", "icon": "layout-dashboard"},
    {"name": "training", "label": "Training status", "icon": "devices"},
    {"name": "timeline", "label": "Timeline", "icon": "timeline"},
    {"name": "results", "label": "Results", "icon": "chart-line"},
    {"name": "system", "label": "System", "icon": "activity-heartbeat"},
    {"name": "models", "label": "Models", "icon": "box"},
    {"name": "lineage", "label": "Lineage", "icon": "sitemap"},
    {"name": "logs", "label": "Logs", "icon": "terminal-2"},
    {"name": "configuration", "label": "Configuration", "icon": "adjustments-horizontal"},
]
MODEL_KINDS = [
    {
        "name": "aggregated",
        "empty_title": "No aggregated models yet",
        "empty_text": "The aggregator stores one after every round.",
    },
    {
        "name": "client",
        "empty_title": "No models of devices yet",
        "empty_text": "Each device stores its own weights when it sends them to the aggregator.",
    },
]


@require_safe
def run_detail(request: HttpRequest, run_id: int) -> HttpResponse:
    run = run_for_user(request.user, run_id)
    rows = list(run.stages.all())
    stages = [stage_item(stage) for stage in rows]
    parts = list(run.run_devices.select_related("device__owner"))
    devices = [device_item(part) for part in parts]
    items: list[Item] = [run_item(run), *stages, *devices]
    items += [round_item(each) for each in run.rounds.all()]
    for part, device in zip(parts, devices, strict=True):
        part.name = device["name"]  # type: ignore[attr-defined]
    open_tab = request.GET.get("tab")
    context = {
        "run": run,
        "can_change": run_may_change(run, request.user),
        "can_start": run.state == RunState.CREATED,
        "can_stop": run.state in RunState.active() and run.state != RunState.STOPPING,
        "tabs": [{**tab, "template": f"runs/tabs/{tab['name']}.html"} for tab in TABS],
        "open_tab": open_tab if any(tab["name"] == open_tab for tab in TABS) else TABS[0]["name"],
        "items": items,
        "chart_views": chart_views_of(request.user, run.project_id),
        "stages": stages,
        "stage_names": StageName.choices,
        "parts": parts,
        "rounds_done": run.round_index + 1,
        "elapsed": run.ended_at - run.started_at if run.started_at and run.ended_at else None,
        "model_count": run.models.count(),
        "model_kinds": MODEL_KINDS,
        "images": _images(rows),
        **_configuration_context(run),
    }
    return render(request, "runs/run_detail.html", context)


@require_safe
def run_commands(request: HttpRequest, run_id: int) -> HttpResponse:
    """The fragment with the command of the aggregator and of each device; tokens are no part of them."""
    run = run_for_user(request.user, run_id)
    draft = run_draft(run)
    reporters = [(0, "Aggregator")]
    reporters += [(client.edge_id, client.name or f"device {client.edge_id}") for client in draft.clients]
    context = {
        "commands": [_command(draft, edge_id, label) for edge_id, label in reporters[:COMMANDS_MAX]],
        "left_out": max(0, len(reporters) - COMMANDS_MAX),
    }
    return render(request, "runs/tabs/_commands.html", context)


@require_POST
def run_start(request: HttpRequest, run_id: int) -> HttpResponse:
    run = run_for_change(request.user, run_id)
    try:
        lifecycle.run_start(run=run, user=request.user)
    except lifecycle.RunRefused as refusal:
        return _answer(request, run, str(refusal))
    return _answer(request, run)


@require_POST
def run_stop(request: HttpRequest, run_id: int) -> HttpResponse:
    run = run_for_change(request.user, run_id)
    try:
        lifecycle.run_stop(run=run, user=request.user)
    except lifecycle.RunRefused as refusal:
        return _answer(request, run, str(refusal))
    return _answer(request, run)


@require_POST
def stage_retry(request: HttpRequest, run_id: int, name: str) -> HttpResponse:
    run = run_for_change(request.user, run_id)
    stage = get_object_or_404(run.stages, name=name)
    try:
        lifecycle.stage_retry(stage=stage, user=request.user)
    except lifecycle.RunRefused as refusal:
        return _answer(request, run, str(refusal))
    return _answer(request, run)


@require_POST
def run_rename(request: HttpRequest, run_id: int) -> HttpResponse:
    run = run_for_change(request.user, run_id)
    try:
        lifecycle.run_rename(run=run, name=request.POST.get("name", ""))
    except lifecycle.RunRefused as refusal:
        return _answer(request, run, str(refusal))
    return _answer(request, run)


def _answer(request: HttpRequest, run: Run, refusal: str = "") -> HttpResponse:
    """Answer a button: the page's script gets a status and the sentence, a plain form the page with a message."""
    if request.accepts("text/html"):
        if refusal:
            messages.error(request, refusal)
        return redirect(run)
    return JsonResponse({"error": refusal}, status=409) if refusal else HttpResponse(status=204)


def _command(draft: RunDraft, edge_id: int, label: str) -> dict[str, str]:
    try:
        entry = lifecycle.run_render(draft, edge_id)
    except ExpressionError as error:
        return {"label": label, "error": str(error)}
    return {"label": label, "text": shlex.join(["python", entry.file, *entry.arguments])}


def _configuration_context(run: Run) -> dict[str, Any]:
    """What the Configuration tab shows of the run's frozen copy."""
    copy = run.configuration_copy
    overridden = set(copy.get("overrides", []))
    sections = [("model_config", "Model"), ("hyperparameters_config", "Hyper-parameters")]
    return {
        "configuration": copy,
        "yaml": _copy_yaml(copy),
        "packages": [run.server_package, run.client_package],
        "limits": [{"name": name, **run.limits[name]} for name in ("server", "client") if run.limits.get(name)],
        "sections": [
            {
                "title": title,
                "rows": [
                    {
                        "name": row["name"],
                        "type": row["type"],
                        "text": _value_text(row["value"]),
                        "overridden": f"{section}.{row['name']}" in overridden,
                    }
                    for row in copy.get(section, [])
                ],
            }
            for section, title in sections
        ],
    }


def _copy_yaml(copy: dict[str, Any]) -> str:
    """The frozen copy in the form of a package's ``conf/fedml.yaml``, the server's entry file and arguments with it."""
    server = copy.get("server", {})
    content: dict[str, Any] = {
        section: {row["name"]: row["value"] for row in copy.get(section, [])}
        for section in ("model_config", "hyperparameters_config")
    }
    content["entry_config"] = {"entry_file": server.get("entry_file", "")}
    content["entry_arguments"] = {row["name"]: row["value"] for row in server.get("entry_arguments", [])}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _images(stages: Iterable[Stage]) -> list[dict[str, str]]:
    """The images that the run's stages have published, by digest."""
    kinds = {StageName.PUSH_SERVER: "server", StageName.PUSH_CLIENT: "client"}
    pushed = [(stage.name, str(stage.result["reference"])) for stage in stages if "reference" in stage.result]
    return [
        {"kind": kinds[StageName(name)], "reference": reference, "short": f"{reference[:-52]}…"}
        for name, reference in pushed
        if name in kinds
    ]


def _value_text(value: Any) -> str:
    """Write a value as YAML would: ``true``, ``null``, ``[1, 2]``; text without quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(_value_text(each) for each in value)}]"
    return str(value)


urlpatterns = [
    path("runs/<int:run_id>/", run_detail, name="run_detail"),
    path("runs/<int:run_id>/commands/", run_commands, name="run_commands"),
    path("runs/<int:run_id>/rename/", run_rename, name="run_rename"),
    path("runs/<int:run_id>/start/", run_start, name="run_start"),
    path("runs/<int:run_id>/stop/", run_stop, name="run_stop"),
    path("runs/<int:run_id>/stages/<str:name>/retry/", stage_retry, name="stage_retry"),
]
