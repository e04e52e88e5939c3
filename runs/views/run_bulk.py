"""What is done to several runs of a project at once, and the page that says what a deletion loses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.template.defaultfilters import pluralize
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.http import require_http_methods, require_POST

from runs import lifecycle
from runs.access import membership_for_user, project_for_run
from runs.models import Project, Role, Run
from runs.retention import holdings

RUNS_AT_ONCE = 100


@require_POST
def runs_bulk(request: HttpRequest, project_id: int) -> HttpResponse:
    """Stop, archive, bring back or delete the runs whose ids are given as ``run``; ``back`` is where to go on."""
    project = project_for_run(request.user, project_id)
    runs = _runs_of(project, request.POST.getlist("run"))
    back = _back(request, project)
    match request.POST.get("action"):
        case "stop":
            _each(request, runs, lambda run: lifecycle.run_stop(run=run, user=request.user), "told to stop")
        case "archive":
            _each(request, runs, lambda run: lifecycle.run_archive(run=run, archived=True), "archived")
        case "unarchive":
            _each(request, runs, lambda run: lifecycle.run_archive(run=run, archived=False), "in the list again")
        case "delete":
            query = urlencode([*(("run", run.pk) for run in runs), ("back", back)])
            return redirect(f"{reverse('runs_delete', args=[project.pk])}?{query}")
        case _:
            return HttpResponseBadRequest("action is stop, archive, unarchive or delete")
    return redirect(back)


@require_http_methods(["GET", "HEAD", "POST"])
def runs_delete(request: HttpRequest, project_id: int) -> HttpResponse:
    """Say what the deletion of runs (``run``, their ids) loses, and delete them."""
    project = project_for_run(request.user, project_id)
    role = Role(membership_for_user(request.user, project_id).role)
    if request.method == "POST":
        runs = _runs_of(project, request.POST.getlist("run"))
        _each(request, runs, lambda run: lifecycle.run_delete(run=run, user=request.user), "deleted")
        return redirect(_back(request, project))
    runs = _runs_of(project, request.GET.getlist("run"))
    if not runs:
        raise Http404("No run of this project is named.")
    may: list[Run] = []
    may_not: list[Run] = []
    for run in runs:
        is_quiet = lifecycle.run_is_quiet(run)
        allowed = is_quiet and lifecycle.run_may_delete(run, request.user, role)
        (may if allowed else may_not).append(run)
    rows = [holdings(run) for run in may]
    context = {
        "project": project,
        "rows": rows,
        "refused": may_not,
        "model_bytes": sum(row.model_bytes for row in rows),
        "back": request.GET.get("back", ""),
    }
    return render(request, "runs/runs_delete.html", context)


def _runs_of(project: Project, values: Iterable[str]) -> list[Run]:
    ids = {int(value) for value in values if value.isascii() and value.isdigit() and len(value) <= 18}
    return list(project.runs.filter(pk__in=sorted(ids)[:RUNS_AT_ONCE]).order_by("-created_at"))


def _each(request: HttpRequest, runs: list[Run], act: Callable[[Run], object], done: str) -> None:
    """Do something to each run; say to how many it was done, and why not to the others."""
    refusals: dict[str, list[str]] = {}
    for run in runs:
        try:
            act(run)
        except lifecycle.RunRefused as refusal:
            refusals.setdefault(str(refusal), []).append(run.name)
    if count := len(runs) - sum(map(len, refusals.values())):
        messages.success(request, f"{count} run{pluralize(count)} {done}.")
    for sentence, names in refusals.items():
        rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
        messages.error(request, f"{', '.join(names[:3])}{rest}: {sentence}")
    if not runs:
        messages.error(request, "Choose the runs first.")


def _back(request: HttpRequest, project: Project) -> str:
    back = request.POST.get("back", "")
    return back if url_has_allowed_host_and_scheme(back, allowed_hosts=None) else project.get_absolute_url()


urlpatterns = [
    path("projects/<int:project_id>/runs/bulk/", runs_bulk, name="runs_bulk"),
    path("projects/<int:project_id>/runs/delete/", runs_delete, name="runs_delete"),
]
