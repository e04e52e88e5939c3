"""Pages of projects: list, create, edit, one project with its runs, and its members."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from devices.models import Device
from mlops_site.lists import Listing, listing_by
from runs.access import CHANGING_ROLES, membership_for_removal, membership_for_user, project_for_owner
from runs.device_choice import devices_now, state_counts
from runs.forms import MemberForm, ProjectForm
from runs.lists import PROJECTS, RUNS, STATE_FILTERS, RunFilter, projects_listed, runs_listed
from runs.models import Project, Role, Run
from runs.projects import ProjectRefused, member_remove, member_set, project_change, project_create, project_delete
from runs.states import RunState


@require_safe
def project_list(request: HttpRequest) -> HttpResponse:
    rows = listing_by(request, projects_listed(request.user), PROJECTS)
    return render(request, "runs/project_list.html", {"listing": rows})


@require_http_methods(["GET", "HEAD", "POST"])
def project_new(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None, user=request.user, initial={"group": request.GET.get("group")})
    if form.is_valid():
        try:
            return redirect(project_create(user=request.user, **form.cleaned_data))
        except ProjectRefused as refused:
            form.add_error("group", str(refused))
    return render(request, "runs/project_form.html", {"form": form})


@require_http_methods(["GET", "HEAD", "POST"])
def project_edit(request: HttpRequest, project_id: int) -> HttpResponse:
    project = project_for_owner(request.user, project_id)
    form = ProjectForm(request.POST or None, instance=Project.objects.get(pk=project.pk), user=request.user)
    if form.is_valid():
        try:
            project_change(project=project, user=request.user, **form.cleaned_data)
        except ProjectRefused as refused:
            form.add_error("group", str(refused))
        else:
            messages.success(request, "The project is saved.")
            return redirect(project)
    context = {"form": form, "project": project, "has_runs": project.runs.exists()}
    return render(request, "runs/project_form.html", context)


@require_POST
def project_remove(request: HttpRequest, project_id: int) -> HttpResponse:
    project = project_for_owner(request.user, project_id)
    try:
        project_delete(project=project)
    except ProjectRefused as refused:
        messages.error(request, str(refused))
        return redirect("project_edit", project.pk)
    messages.success(request, f"The project {project} is deleted.")
    return redirect("project_list")


@require_safe
def project_detail(request: HttpRequest, project_id: int) -> HttpResponse:
    """The project with its runs; htmx asks for the runs alone when one of them has changed."""
    membership = membership_for_user(request.user, project_id)
    project = membership.project
    context = {
        "project": project,
        "listing": _runs_listing(request, project),
        "state_filters": STATE_FILTERS,
        "filter": RunFilter.of(request.GET),
        "can_run": membership.role in CHANGING_ROLES,
    }
    if getattr(request, "htmx", False):
        return render(request, "runs/_project_runs.html", context)
    members = list(project.memberships.select_related("user").order_by("created_at"))
    context |= {
        "is_owner": membership.role == Role.OWNER,
        "by_group": bool(membership.group_role),
        "members": members,
        "member_form": MemberForm(),
        "roles": Role,
        "device_counts": state_counts(devices_now(Device.objects.of_project(project))),
        "run_counts": project.runs.aggregate(
            total=Count("pk"), active=Count("pk", filter=Q(state__in=RunState.active()))
        ),
    }
    return render(request, "runs/project_detail.html", context)


def _runs_listing(request: HttpRequest, project: Project) -> Listing[Run]:
    return listing_by(request, RunFilter.of(request.GET).apply(runs_listed(project.runs.all())), RUNS)


@require_POST
def member_add(request: HttpRequest, project_id: int) -> HttpResponse:
    """Add a user, or change a member's role."""
    project = project_for_owner(request.user, project_id)
    form = MemberForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Type the user name of the person and choose a role.")
        return redirect(project)
    try:
        membership = member_set(
            project=project, username=form.cleaned_data["username"], role=Role(form.cleaned_data["role"])
        )
    except ProjectRefused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{membership.user} is now {Role(membership.role).label.lower()} of {project}.")
    return redirect(project)


@require_POST
def member_delete(request: HttpRequest, project_id: int, membership_id: int) -> HttpResponse:
    """Remove a member; everybody may leave."""
    membership = membership_for_removal(request.user, project_id, membership_id)
    project = membership.project
    try:
        member_remove(membership=membership)
    except ProjectRefused as refused:
        messages.error(request, str(refused))
        return redirect(project)
    if membership.user_id == request.user.pk:
        messages.success(request, f"You have left {project}.")
        return redirect("project_list")
    messages.success(request, f"{membership.user} is no longer a member.")
    return redirect(project)


urlpatterns = [
    path("projects/", project_list, name="project_list"),
    path("projects/new/", project_new, name="project_create"),
    path("projects/<int:project_id>/", project_detail, name="project_detail"),
    path("projects/<int:project_id>/edit/", project_edit, name="project_edit"),
    path("projects/<int:project_id>/delete/", project_remove, name="project_delete"),
    path("projects/<int:project_id>/members/", member_add, name="member_add"),
    path("projects/<int:project_id>/members/<int:membership_id>/remove/", member_delete, name="member_remove"),
]
