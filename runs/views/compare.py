"""The page on which runs of a project are compared."""

from __future__ import annotations

import orjson
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_safe

from runs.access import membership_for_user
from runs.comparison import best_run, curve_figures, parameter_figures, parameter_rows
from runs.live.figures import themes

RUNS_MAX = 20
OFFERED = 100


@require_safe
def runs_compare(request: HttpRequest, project_id: int) -> HttpResponse:
    """Runs of one project beside each other: ``?run=1&run=2``, at most 20; those of other projects are passed over."""
    project = membership_for_user(request.user, project_id).project
    wanted = [int(text) for text in request.GET.getlist("run") if text.isdecimal() and len(text) < 18]
    found = project.runs.in_bulk(wanted[:RUNS_MAX])
    runs = [found[run_id] for run_id in dict.fromkeys(wanted) if run_id in found]
    context = {
        "project": project,
        "runs": runs,
        "chosen": set(found),
        "offered": project.runs.order_by("-pk")[:OFFERED],
        "runs_max": RUNS_MAX,
        "best": best_run(runs),
        "rows": parameter_rows(runs),
        "figures": orjson.dumps(
            {"curves": curve_figures(runs), "parameters": parameter_figures(runs), "themes": themes()},
            option=orjson.OPT_SERIALIZE_NUMPY,
        ).decode(),
    }
    return render(request, "runs/compare.html", context)


urlpatterns = [path("projects/<int:project_id>/compare/", runs_compare, name="runs_compare")]
