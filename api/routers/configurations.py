"""Configurations: what runs are made of."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from api.auth import READ, WRITE, user_of
from api.idempotency import IdempotencyKey, done_once
from api.problems import ApiProblem, FieldProblem
from api.schemas import ID_MAX, Digest, Id, Page, PageQuery, rows_page, sort_query
from configurations.access import configuration_for_user, package_for_user, projects_to_share_with
from configurations.draft import ConfigurationDraft, rows_autofill
from configurations.forms import data_from_token, data_token
from configurations.lists import CONFIGURATIONS, configurations_listed
from configurations.models import Configuration, Package
from configurations.rows import ROWS_MAX, SECTIONS, Row, RowType, row_type, value_problem
from configurations.services import (
    clone_draft,
    configuration_create,
    configuration_delete,
    configuration_update,
)

router = Router()


class RowOut(Schema):
    """One named value."""

    name: str
    type: RowType
    value: Any


class RowIn(Schema):
    """One named value to set. Its type is that of the value, where none is given."""

    name: str = Field(max_length=100)
    value: str | int | float | bool | list[str | int | float | bool | None] | None
    type: RowType | None = None


class Sections(Schema):
    """The values of a configuration, by section."""

    model_config = ConfigDict(populate_by_name=True)  # pydantic's own: the section of that name has an alias

    model_rows: list[RowOut] = Field(alias="model_config")
    hyperparameters_config: list[RowOut]


class DataRef(Schema):
    """Uploaded training data."""

    name: str
    sha256: str
    size: int
    token: str = Field(description="send it back to keep the data")


class ConfigurationOut(Schema):
    """A configuration, as lists show it."""

    id: int
    name: str
    owner: str
    project_id: int | None = Field(description="the project that it is shared with")
    server_package: str = Field(description="sha256")
    client_package: str = Field(description="sha256")
    run_count: int
    created_at: datetime
    updated_at: datetime


class ConfigurationDetail(ConfigurationOut, Sections):
    """A configuration with its values."""

    private_data_path: str
    synthetic_data_url: str
    synthetic_data: DataRef | None


class ConfigurationIn(Schema):
    """A configuration to save. Values that are left out are filled in from the packages."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(max_length=120)
    server_package: Digest
    client_package: Digest
    project_id: int | None = Field(default=None, ge=1, le=ID_MAX, description="a project to share it with")
    model_rows: list[RowIn] | None = Field(default=None, alias="model_config", max_length=ROWS_MAX)
    hyperparameters_config: list[RowIn] | None = Field(default=None, max_length=ROWS_MAX)
    private_data_path: str = Field(default="", max_length=500)
    synthetic_data_url: str = Field(default="", max_length=1000)
    synthetic_data: str = Field(default="", max_length=5000, description="token of uploaded data")


class CloneIn(Schema):
    """How to call the copy."""

    name: str = Field(default="", max_length=120, description="made from the original's where it is empty")


class PackageCommandOut(Schema):
    """A command that a package would be started with."""

    kind: str
    command: str
    problems: list[str]


@router.get("/configurations", auth=READ, response=Page[ConfigurationOut], summary="List configurations")
def configuration_list(
    request: HttpRequest, query: Query[PageQuery], sort: str = sort_query(CONFIGURATIONS)
) -> dict[str, Any]:
    """Your own, and those that are shared with your projects."""
    rows, page = rows_page(configurations_listed(user_of(request)), CONFIGURATIONS, query, sort)
    return {"items": [ConfigurationOut(**_facts(row)) for row in rows], **page}


@router.post(
    "/configurations",
    auth=WRITE,
    response={201: ConfigurationDetail},
    by_alias=True,
    summary="Create a configuration",
)
def configuration_new(
    request: HttpRequest, payload: ConfigurationIn, idempotency_key: IdempotencyKey = None
) -> Status[Any]:
    user = user_of(request)
    draft = _draft(payload, user)
    return done_once(request, idempotency_key, lambda: _shown(configuration_create(draft, owner=user), user))


@router.get(
    "/configurations/autofill", auth=READ, response=Sections, by_alias=True, summary="Show what packages fill in"
)
def configuration_autofill(
    request: HttpRequest, server_package: Digest | None = None, client_package: Digest | None = None
) -> Sections:
    """The values that a new configuration of these packages starts from."""
    user = user_of(request)
    found = {
        kind: _package(user, kind, sha256) if sha256 else None
        for kind, sha256 in (("server", server_package), ("client", client_package))
    }
    return Sections.model_validate({section: _filled(section, found) for section in SECTIONS})


@router.get(
    "/configurations/{configuration_id}",
    auth=READ,
    response=ConfigurationDetail,
    by_alias=True,
    summary="Show a configuration",
)
def configuration_show(request: HttpRequest, configuration_id: Id) -> ConfigurationDetail:
    user = user_of(request)
    return _shown(configuration_for_user(user, configuration_id), user)


@router.put(
    "/configurations/{configuration_id}",
    auth=WRITE,
    response=ConfigurationDetail,
    by_alias=True,
    summary="Save new values of a configuration",
)
def configuration_save(request: HttpRequest, configuration_id: Id, payload: ConfigurationIn) -> ConfigurationDetail:
    """Its owner may. Runs that were made of it keep their own copies."""
    user = user_of(request)
    configuration = configuration_for_user(user, configuration_id, change=True)
    return _shown(configuration_update(configuration, _draft(payload, user)), user)


@router.delete("/configurations/{configuration_id}", auth=WRITE, response={204: None}, summary="Delete a configuration")
def configuration_remove(request: HttpRequest, configuration_id: Id) -> Status[None]:
    """Its owner may, unless a run that is not over was made of it."""
    configuration_delete(configuration_for_user(user_of(request), configuration_id, change=True))
    return Status(204, None)


@router.post(
    "/configurations/{configuration_id}/clone",
    auth=WRITE,
    response={201: ConfigurationDetail},
    by_alias=True,
    summary="Clone a configuration",
)
def configuration_copy(
    request: HttpRequest, configuration_id: Id, payload: CloneIn, idempotency_key: IdempotencyKey = None
) -> Status[Any]:
    """The copy is yours, and shared with nobody."""
    user = user_of(request)
    configuration = configuration_for_user(user, configuration_id)

    def act() -> ConfigurationDetail:
        draft = clone_draft(configuration, owner=user, name=payload.name.strip())
        return _shown(configuration_create(draft, owner=user), user)

    return done_once(request, idempotency_key, act)


@router.get(
    "/configurations/{configuration_id}/commands",
    auth=READ,
    response=list[PackageCommandOut],
    summary="Show what a configuration would start",
)
def configuration_commands(request: HttpRequest, configuration_id: Id) -> list[PackageCommandOut]:
    """The commands of the server and of the first client in an imagined run."""
    configuration = configuration_for_user(user_of(request), configuration_id)
    return [
        PackageCommandOut(
            kind=preview.kind.value,
            command=shlex.join(["python", preview.rendered.file, *preview.rendered.arguments]),
            problems=[str(error.problem) for error in preview.errors],
        )
        for preview in ConfigurationDraft.of(configuration).previews()
    ]


def _package(user: User, kind: str, sha256: str) -> Package:
    package = package_for_user(user, kind, sha256)
    if package is None:
        detail = f"This {kind} package is not in the store, or you may not see it. Upload it."
        field = FieldProblem(field=f"{kind}_package", message=detail)
        raise ApiProblem(422, "invalid", detail, errors=[field])
    return package


def _filled(section: str, packages: dict[str, Package | None]) -> list[RowOut]:
    server, client = (package.manifest if package else None for package in packages.values())
    return [
        RowOut(name=row["name"], type=row["type"], value=row["value"])
        for row in rows_autofill(section, [], server=server, client=client, before=None)
    ]


def _draft(payload: ConfigurationIn, user: User) -> ConfigurationDraft:
    """Return what would be saved, after what only this caller can get wrong: packages, the project, the data."""
    packages: dict[str, Package] = {
        "server": _package(user, "server", payload.server_package),
        "client": _package(user, "client", payload.client_package),
    }
    project = None
    if payload.project_id is not None:
        project = projects_to_share_with(user).filter(pk=payload.project_id).first()
        if project is None:
            raise ApiProblem(422, "invalid", "project_id: choose a project of which you are a member or an owner.")
    data = data_from_token(payload.synthetic_data, user) if payload.synthetic_data else None
    if payload.synthetic_data and data is None:
        raise ApiProblem(422, "invalid", "synthetic_data: the uploaded data are not known. Upload them again.")
    rows = {
        section: _rows(section, given, packages)
        for section, given in zip(SECTIONS, (payload.model_rows, payload.hyperparameters_config), strict=True)
    }
    return ConfigurationDraft(
        name=payload.name,
        server_package=packages["server"],
        client_package=packages["client"],
        model_config=rows["model_config"],
        hyperparameters_config=rows["hyperparameters_config"],
        private_data_path=payload.private_data_path,
        synthetic_data_url=payload.synthetic_data_url,
        synthetic_data=data,
        project=project,
    )


def _rows(section: str, given: list[RowIn] | None, packages: dict[str, Package]) -> list[Row]:
    if given is None:
        server, client = packages["server"].manifest, packages["client"].manifest
        return rows_autofill(section, [], server=server, client=client, before=None)
    return [_row(section, row) for row in given]


def _row(section: str, row: RowIn) -> Row:
    value: Any = row.value
    if value_problem(value) is None:
        if row.type == "float" and row_type(value) == "integer":
            value = float(value)
        if row.type is not None and row_type(value) != row.type:
            detail = f"The value is of type {row_type(value)}, not {row.type}. Change one of them."
            raise ApiProblem(
                422, "invalid", detail, errors=[FieldProblem(field=f"{section}.{row.name}", message=detail)]
            )
    return {"name": row.name, "type": row_type(value), "value": value}


def _facts(row: Configuration) -> dict[str, Any]:
    return {
        "id": row.pk,
        "name": row.name,
        "owner": row.owner.get_username(),
        "project_id": row.project_id,
        "server_package": row.server_package.sha256,
        "client_package": row.client_package.sha256,
        "run_count": getattr(row, "run_count", 0),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _shown(configuration: Configuration, user: User) -> ConfigurationDetail:
    row = configurations_listed(user).get(pk=configuration.pk)
    data = ConfigurationDraft.of(row).synthetic_data
    shown = {
        **_facts(row),
        "model_config": row.model_config,
        "hyperparameters_config": row.hyperparameters_config,
        "private_data_path": row.private_data_path,
        "synthetic_data_url": row.synthetic_data_url,
        "synthetic_data": {**asdict(data), "token": data_token(data, user)} if data else None,
    }
    return ConfigurationDetail.model_validate(shown)
