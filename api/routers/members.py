"""Members of projects."""

from __future__ import annotations

from datetime import datetime

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status

from api.auth import READ, WRITE, user_of
from api.problems import form_problem
from api.schemas import Id
from runs.access import membership_for_removal, membership_for_user, project_for_owner
from runs.forms import MemberForm
from runs.models import Membership, Role
from runs.projects import member_remove, member_set

router = Router()


class MemberOut(Schema):
    """A member of a project."""

    id: int = Field(description="of the membership")
    username: str
    role: Role
    since: datetime


class MemberIn(Schema):
    """A user to add, or a member whose role to change."""

    username: str = Field(min_length=1, max_length=150)
    role: Role = Role.MEMBER


@router.get("/projects/{project_id}/members", auth=READ, response=list[MemberOut], summary="List members")
def member_list(request: HttpRequest, project_id: Id) -> list[MemberOut]:
    """Everybody who sees the project, the first member first."""
    project = membership_for_user(user_of(request), project_id).project
    return [_member_out(row) for row in project.memberships.select_related("user").order_by("created_at", "pk")]


@router.post("/projects/{project_id}/members", auth=WRITE, response=MemberOut, summary="Add a member or change a role")
def member_add(request: HttpRequest, project_id: Id, payload: MemberIn) -> MemberOut:
    """Owners of the project may. Sending the same again changes nothing."""
    project = project_for_owner(user_of(request), project_id)
    form = MemberForm({"username": payload.username, "role": payload.role.value})
    if not form.is_valid():
        raise form_problem(form)
    role = Role(form.cleaned_data["role"])
    return _member_out(member_set(project=project, username=form.cleaned_data["username"], role=role))


@router.delete(
    "/projects/{project_id}/members/{membership_id}", auth=WRITE, response={204: None}, summary="Remove a member"
)
def member_delete(request: HttpRequest, project_id: Id, membership_id: Id) -> Status[None]:
    """Owners of the project may, and everybody may leave."""
    member_remove(membership=membership_for_removal(user_of(request), project_id, membership_id))
    return Status(204, None)


def _member_out(row: Membership) -> MemberOut:
    return MemberOut(id=row.pk, username=row.user.get_username(), role=Role(row.role), since=row.created_at)
