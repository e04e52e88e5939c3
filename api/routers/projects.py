"""Projects, and the devices that their runs may use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Model
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status

from api.auth import READ, WRITE, user_of
from api.idempotency import IdempotencyKey, done_once
from api.problems import form_problem
from api.routers.devices import DeviceOut, devices_out
from api.schemas import Id, Page, PageQuery, rows_page, sort_query
from devices.models import Device
from runs import projects
from runs.access import membership_for_user, project_for_owner
from runs.forms import ProjectForm
from runs.lists import PROJECTS, projects_listed
from runs.models import Project
from runs.projects import project_create, project_delete

router = Router()


class ProjectOut(Schema):
    """A project."""

    id: int
    name: str
    description: str
    group: int | None = Field(description="the group that it belongs to")
    created_at: datetime
    created_by: str | None
    role: str = Field(description="yours: owner, member or viewer")
    run_count: int
    active_run_count: int
    member_count: int
    last_run_id: int | None


class ProjectIn(Schema):
    """A project to make."""

    name: str = Field(max_length=120)
    description: str = Field(default="", max_length=10_000)
    group: int | None = Field(
        default=None, ge=1, description="a group of yours, whose members get their role in the project"
    )


class ProjectChange(Schema):
    """What to change of a project; what is missing stays."""

    name: str | None = Field(default=None, max_length=120)
    description: str | None = Field(default=None, max_length=10_000)


@router.get("/projects", auth=READ, response=Page[ProjectOut], summary="List projects")
def project_list(request: HttpRequest, query: Query[PageQuery], sort: str = sort_query(PROJECTS)) -> dict[str, Any]:
    """The projects of which you are a member."""
    rows, page = rows_page(projects_listed(user_of(request)), PROJECTS, query, sort)
    return {"items": [_project_out(row) for row in rows], **page}


@router.post("/projects", auth=WRITE, response={201: ProjectOut}, summary="Create a project")
def project_new(request: HttpRequest, payload: ProjectIn, idempotency_key: IdempotencyKey = None) -> Status[Any]:
    """You are its owner."""
    form = _form(request, payload.dict())

    def act() -> ProjectOut:
        project = project_create(user=user_of(request), **form.cleaned_data)
        return _project_shown(request, project.pk)

    return done_once(request, idempotency_key, act)


@router.get("/projects/{project_id}", auth=READ, response=ProjectOut, summary="Show a project")
def project_show(request: HttpRequest, project_id: Id) -> ProjectOut:
    membership_for_user(user_of(request), project_id)
    return _project_shown(request, project_id)


@router.patch("/projects/{project_id}", auth=WRITE, response=ProjectOut, summary="Change a project")
def project_change(request: HttpRequest, project_id: Id, payload: ProjectChange) -> ProjectOut:
    """Its owners may."""
    project = project_for_owner(user_of(request), project_id)
    given = {name: value for name, value in payload.dict().items() if value is not None}
    data = {"name": project.name, "description": project.description, "group": project.group_id, **given}
    form = _form(request, data, instance=Project.objects.get(pk=project.pk))
    projects.project_change(project=project, user=user_of(request), **form.cleaned_data)
    return _project_shown(request, project_id)


@router.delete("/projects/{project_id}", auth=WRITE, response={204: None}, summary="Delete a project")
def project_remove(request: HttpRequest, project_id: Id) -> Status[None]:
    """Its owners may, as long as it has no runs."""
    project_delete(project=project_for_owner(user_of(request), project_id))
    return Status(204, None)


@router.get("/projects/{project_id}/devices", auth=READ, response=list[DeviceOut], summary="List a project's devices")
def project_devices(request: HttpRequest, project_id: Id) -> list[DeviceOut]:
    """The devices that its runs may use: the bound ones of its members."""
    project = membership_for_user(user_of(request), project_id).project
    return devices_out(Device.objects.of_project(project).select_related("owner").order_by("name", "pk"))


def _form(request: HttpRequest, data: dict[str, Any], instance: Model | None = None) -> ProjectForm:
    form = ProjectForm(data, instance=instance, user=user_of(request))
    if not form.is_valid():
        raise form_problem(form)
    return form


def _project_shown(request: HttpRequest, project_id: int) -> ProjectOut:
    return _project_out(projects_listed(user_of(request)).get(pk=project_id))


def _project_out(row: Project) -> ProjectOut:
    counted: Any = row
    return ProjectOut(
        id=row.pk,
        name=row.name,
        description=row.description,
        group=row.group_id,
        created_at=row.created_at,
        created_by=row.created_by.get_username() if row.created_by else None,
        role=counted.role,
        run_count=counted.run_count,
        active_run_count=counted.active_count,
        member_count=counted.member_count,
        last_run_id=counted.last_run_id,
    )
