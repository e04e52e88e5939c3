"""Pages of groups and collaborators. How an invited person joins is in ``groups.join``."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from groups.access import group_for_owner, membership_for_removal, membership_for_user
from groups.forms import GroupForm, GroupMemberForm, GroupRoleForm, InvitationForm, NewGroupForm
from groups.invitations import invitation_create, invitation_revoke
from groups.models import Group, GroupMembership
from groups.services import (
    GroupRefused,
    collaborators_of,
    group_create,
    group_delete,
    member_join,
    member_leave,
    member_role_set,
)
from groups.topology import group_topology
from mlops_site.lists import listing
from runs.access import CHANGING_ROLES
from runs.device_choice import state_counts
from runs.models import Membership, Project, Role, Run
from runs.states import RunState


def _user(request: HttpRequest) -> User:
    """The signed-in user; LoginRequiredMiddleware lets nobody else through."""
    return cast(User, request.user)


@require_safe
def group_list(request: HttpRequest) -> HttpResponse:
    """The groups of which the user is a member."""
    user = _user(request)
    members = Prefetch("memberships", GroupMembership.objects.select_related("user").order_by("created_at"))
    groups = (
        Group.objects.filter(pk__in=Group.objects.visible_to(user).values("pk"))
        .annotate(
            member_count=Count("memberships", distinct=True),
            project_count=Count("projects", distinct=True),
            device_count=Count(
                "memberships__user__devices",
                filter=Q(memberships__user__devices__unbound_at=None),
                distinct=True,
            ),
        )
        .prefetch_related(members)
    )
    rows = listing(
        request,
        groups,
        search=["name", "description", "memberships__user__username"],
        sorts={
            "name": "name",
            "members": "member_count",
            "projects": "project_count",
            "devices": "device_count",
            "created": "created_at",
        },
        default_sort="name",
    )
    return render(request, "groups/group_list.html", {"listing": rows})


@require_safe
def collaborators(request: HttpRequest) -> HttpResponse:
    """Everyone with whom the user shares a group or a project, and what is shared."""
    user = _user(request)
    people = User.objects.filter(pk__in=collaborators_of(user).values("pk")).annotate(
        device_count=Count("devices", filter=Q(devices__unbound_at=None), distinct=True)
    )
    groups = GroupMembership.objects.filter(group__memberships__user=user).select_related("group")
    shared_projects = Project.objects.visible_to(user).values("pk")
    projects = Membership.objects.filter(project__in=shared_projects).select_related("project")
    rows = listing(
        request,
        people.prefetch_related(
            Prefetch("group_memberships", groups.order_by("group__name"), to_attr="shared_groups"),
            Prefetch("memberships", projects.order_by("project__name"), to_attr="shared_projects"),
        ),
        search=["username", "first_name", "last_name"],
        sorts={"name": "username", "devices": "device_count"},
        default_sort="name",
    )
    owned = GroupMembership.objects.filter(user=user, role=Role.OWNER).select_related("group").order_by("group__name")
    return render(request, "groups/collaborators.html", {"listing": rows, "owned": owned})


@require_http_methods(["GET", "HEAD", "POST"])
def group_new(request: HttpRequest) -> HttpResponse:
    """Make a group, with collaborators in it from the start."""
    user = _user(request)
    form = NewGroupForm(request.POST or None, collaborators=collaborators_of(user))
    if form.is_valid():
        return redirect(group_create(user=user, **form.cleaned_data))
    return render(request, "groups/group_form.html", {"form": form})


@require_safe
def group_detail(request: HttpRequest, group_id: int) -> HttpResponse:
    """The group: who and what is connected, its projects, its members, and its open invitations."""
    user = _user(request)
    membership = membership_for_user(user, group_id)
    group = membership.group
    branches = group_topology(group)
    is_owner = membership.role == Role.OWNER
    present = [branch.membership.user_id for branch in branches]
    addable = collaborators_of(user).exclude(pk__in=present) if is_owner else User.objects.none()
    context = {
        "group": group,
        "is_owner": is_owner,
        "may_add_projects": membership.role in CHANGING_ROLES,
        "branches": branches,
        "counts": state_counts([now for branch in branches for now in branch.devices]),
        "projects": _projects_of(group, user),
        "roles": Role,
        "member_form": GroupMemberForm(collaborators=addable) if is_owner and addable.exists() else None,
        "invitation_form": InvitationForm(),
        "invitations": group.invitations.usable().select_related("created_by") if is_owner else [],
    }
    return render(request, "groups/group_detail.html", context)


def _projects_of(group: Group, user: User) -> QuerySet[Project]:
    runs = Run.objects.order_by("-created_at")
    return (
        Project.objects.visible_to(user)
        .filter(group=group)
        .annotate(
            run_count=Count("runs", distinct=True),
            active_count=Count("runs", filter=Q(runs__state__in=RunState.active()), distinct=True),
        )
        .prefetch_related(Prefetch("runs", runs[:1], to_attr="last_runs"))
        .order_by("name")
    )


@require_http_methods(["GET", "HEAD", "POST"])
def group_edit(request: HttpRequest, group_id: int) -> HttpResponse:
    group = group_for_owner(request.user, group_id)
    form = GroupForm(request.POST or None, instance=group)
    if form.is_valid():
        form.save()
        messages.success(request, "The group is saved.")
        return redirect(group)
    context = {"form": form, "group": group, "project_count": group.projects.count()}
    return render(request, "groups/group_form.html", context)


@require_POST
def group_remove(request: HttpRequest, group_id: int) -> HttpResponse:
    group = group_for_owner(request.user, group_id)
    try:
        group_delete(group=group)
    except GroupRefused as refused:
        messages.error(request, str(refused))
        return redirect("group_edit", group.pk)
    messages.success(request, f"The group {group} is deleted.")
    return redirect("group_list")


@require_POST
def member_add(request: HttpRequest, group_id: int) -> HttpResponse:
    """Add a collaborator."""
    group = group_for_owner(request.user, group_id)
    form = GroupMemberForm(request.POST, collaborators=collaborators_of(_user(request)))
    if not form.is_valid():
        messages.error(request, "Choose one of your collaborators and a role. Others can be invited by a link.")
        return redirect(group)
    person = form.cleaned_data["person"]
    if member_join(group=group, user=person, role=form.cleaned_data["role"], by=request.user):
        messages.success(request, f"{person} is now in the group.")
    else:
        messages.info(request, f"{person} is in the group already.")
    return redirect(group)


@require_POST
def member_role(request: HttpRequest, group_id: int, membership_id: int) -> HttpResponse:
    """Give a member another role."""
    group = group_for_owner(request.user, group_id)
    membership = get_object_or_404(group.memberships.select_related("user"), pk=membership_id)
    form = GroupRoleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose one of the roles.")
        return redirect(group)
    try:
        member_role_set(membership=membership, role=Role(form.cleaned_data["role"]))
    except GroupRefused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{membership.user} is now {Role(membership.role).label.lower()} of {group}.")
    return redirect(group)


@require_POST
def member_remove(request: HttpRequest, group_id: int, membership_id: int) -> HttpResponse:
    """Remove a member; everybody may leave."""
    membership = membership_for_removal(request.user, group_id, membership_id)
    group = membership.group
    try:
        member_leave(membership=membership, by=request.user)
    except GroupRefused as refused:
        messages.error(request, str(refused))
        return redirect(group)
    if membership.user_id == request.user.pk:
        messages.success(request, f"You have left the group {group}.")
        return redirect("group_list")
    messages.success(request, f"{membership.user} is no longer in the group.")
    return redirect(group)


@require_POST
@never_cache
def invitation_new(request: HttpRequest, group_id: int) -> HttpResponse:
    """Make an invitation, and show its link, in this answer alone."""
    group = group_for_owner(request.user, group_id)
    form = InvitationForm(request.POST)
    if not form.is_valid():
        messages.error(request, "An invitation is good for 1, 7 or 30 days and lets in 1 to 200 people.")
        return redirect(group)
    link, invitation = invitation_create(group=group, user=request.user, **form.cleaned_data)
    return render(request, "groups/invitation.html", {"group": group, "link": link, "invitation": invitation})


@require_POST
def invitation_withdraw(request: HttpRequest, group_id: int, invitation_id: int) -> HttpResponse:
    group = group_for_owner(request.user, group_id)
    invitation_revoke(get_object_or_404(group.invitations, pk=invitation_id))
    messages.success(request, "The invitation is withdrawn. Nobody can join by its link any more.")
    return redirect(group)


_GROUP = "groups/<int:group_id>/"
urlpatterns = [
    path("collaborators/", collaborators, name="collaborators"),
    path("groups/", group_list, name="group_list"),
    path("groups/new/", group_new, name="group_create"),
    path(_GROUP, group_detail, name="group_detail"),
    path(f"{_GROUP}edit/", group_edit, name="group_edit"),
    path(f"{_GROUP}delete/", group_remove, name="group_delete"),
    path(f"{_GROUP}members/", member_add, name="group_member_add"),
    path(f"{_GROUP}members/<int:membership_id>/role/", member_role, name="group_member_role"),
    path(f"{_GROUP}members/<int:membership_id>/remove/", member_remove, name="group_member_remove"),
    path(f"{_GROUP}invitations/", invitation_new, name="group_invite"),
    path(f"{_GROUP}invitations/<int:invitation_id>/withdraw/", invitation_withdraw, name="group_invitation_withdraw"),
]
