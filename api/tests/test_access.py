"""Who may call what: every operation with no token, a wrong scope, as a stranger and as a viewer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts.tests.objects import make_device
from api.application import api
from api.models import AccessToken
from api.scopes import Scope
from api.tests.conftest import ApiFor
from configurations.models import Configuration
from devices.models import Device, EnrolmentCode
from devices.services import enrolment_code_create
from runs.lifecycle import run_create
from runs.models import Project, Run, StoredModel


class Operation(NamedTuple):
    """One operation of the schema, with ids of things that are there."""

    name: str
    method: str
    path: str
    scope: str
    has_ids: bool


BODIES: dict[str, Any] = {
    "project_new": {"name": "New"},
    "project_change": {"name": "Other"},
    "member_add": {"username": "eve"},
    "device_change": {"name": "other"},
    "configuration_copy": {},
    "run_change": {"name": "other"},
    "run_stop": {},
}
# What changes a thing that only its owner may change, whatever the project.
OWNERS_ALONE = {"configuration_save", "configuration_remove", "device_change", "device_remove"}
VIEWERS_MAY = {"configuration_copy", "member_delete"}  # a copy of one's own; and leaving


@pytest.fixture
def run(project: Project, owner: User, configuration: Configuration, device: Device) -> Run:
    return run_create(project=project, user=owner, configuration=configuration, device_ids=[device.pk])


@pytest.fixture
def operations(run: Run, owner: User, viewer: User, project: Project, configuration: Configuration) -> list[Operation]:
    model = StoredModel.objects.create(
        run=run, edge_id=0, kind="aggregated", round_index=0, key="a0", sha256="0" * 64, size=1, storage_name=""
    )
    enrolment_code_create(owner)
    ids: dict[str, Any] = {
        "project_id": project.pk,
        "membership_id": project.memberships.get(user=viewer).pk,
        "configuration_id": configuration.pk,
        "device_id": make_device(owner, "spare").pk,
        "code_id": EnrolmentCode.objects.get().pk,
        "run_id": run.pk,
        "model_id": model.pk,
        "token_id": 1,
        "kind": "server",
        "sha256": configuration.server_package.sha256,
        "name": "launch",
    }
    BODIES["configuration_save"] = BODIES["configuration_new"] = {
        "name": "Mine",
        "server_package": configuration.server_package.sha256,
        "client_package": configuration.client_package.sha256,
    }
    plan = {"configuration_id": configuration.pk, "device_ids": list(run.run_devices.values_list("edge_id", flat=True))}
    BODIES["run_create"] = BODIES["run_preview"] = plan
    return list(_operations(ids))


def _operations(ids: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in api.get_openapi_schema()["paths"].items():
        for method, details in methods.items():
            filled = path.removeprefix("/api/v1").format(**ids)
            query = "?series=1" if details["operationId"] == "series_points" else ""
            yield Operation(details["operationId"], method, filled + query, details["x-scope"], "{" in path)


def _snapshot() -> list[Any]:
    """What no refused call may have changed."""
    rows = (Project, Run, Configuration, Device)
    return [list(model.objects.order_by("pk").values()) for model in rows] + [EnrolmentCode.objects.count()]


def test_nobody_calls_without_a_token(operations: list[Operation]) -> None:
    before = _snapshot()
    client = Client(enforce_csrf_checks=True)
    answers = {
        each.name: getattr(client, each.method)(
            f"/api/v1{each.path}", data=BODIES.get(each.name), content_type="application/json"
        )
        for each in operations
        if each.method != "get"
    } | {each.name: client.get(f"/api/v1{each.path}") for each in operations if each.method == "get"}
    assert {name for name, answer in answers.items() if answer.status_code != 401} == set()
    assert answers["run_list"].headers["WWW-Authenticate"] == 'Bearer realm="roundtable"'
    assert answers["run_list"].json()["type"] == "urn:roundtable:problem:unauthenticated"
    assert _snapshot() == before


def test_a_token_without_the_scope_is_refused(operations: list[Operation], owner: User, api_for: ApiFor) -> None:
    before = _snapshot()
    clients = {scope: api_for(owner, set(Scope.values) - {scope}) for scope in Scope.values}
    clients["session"] = api_for(owner)
    wrong = {
        each.name: clients[each.scope].response(each.method, each.path, BODIES.get(each.name))
        for each in operations
        if each.scope != "any"
    }
    assert {name: answer.status_code for name, answer in wrong.items() if answer.status_code != 403} == {}
    assert wrong["run_start"].json()["type"] == "urn:roundtable:problem:scope-missing"
    assert "scope `run`" in wrong["run_start"].json()["detail"]
    assert _snapshot() == before


def test_a_stranger_finds_nothing(operations: list[Operation], stranger: User, api_for: ApiFor) -> None:
    before = _snapshot()
    client = api_for(stranger)
    found = {
        each.name: client.response(each.method, each.path, BODIES.get(each.name)).status_code
        for each in operations
        if each.has_ids and each.scope != "session"
    }
    assert {name: status for name, status in found.items() if status != 404} == {}
    lists = ["/projects", "/packages", "/configurations", "/devices", "/runs"]
    assert [client("GET", name)["total"] for name in lists] == [0] * len(lists)
    assert _snapshot() == before


def test_a_viewer_sees_everything_of_the_project_and_changes_nothing(
    operations: list[Operation], viewer: User, api_for: ApiFor
) -> None:
    before = _snapshot()
    client = api_for(viewer)
    kept = [each for each in operations if each.has_ids and each.name not in VIEWERS_MAY | {"model_file"}]
    mine = {"device_code_show", "token_revoke_one"}
    answers = {
        each.name: client.response(each.method, each.path, BODIES.get(each.name)).status_code
        for each in kept
        if each.name not in mine
    }
    reading = {each.name for each in kept if each.method == "get"}
    assert {name: status for name, status in answers.items() if name in reading and status != 200} == {}
    assert {name: status for name, status in answers.items() if name not in reading and status != 403} == {}
    assert _snapshot() == before


def test_a_project_mate_cannot_change_what_is_the_owners(
    operations: list[Operation], member: User, api_for: ApiFor
) -> None:
    client = api_for(member)
    answers = {
        each.name: client.response(each.method, each.path, BODIES.get(each.name)).status_code
        for each in operations
        if each.name in OWNERS_ALONE
    }
    assert answers == dict.fromkeys(OWNERS_ALONE, 403)


def test_a_session_needs_the_csrf_token_to_change_something(owner: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    assert client.get("/api/v1/projects").status_code == 200
    refused = client.post("/api/v1/projects", {"name": "New"}, content_type="application/json")
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:roundtable:problem:csrf")
    assert Project.objects.count() == 0
    client.get("/account/tokens/")
    token = client.cookies["csrftoken"].value
    made = client.post(
        "/api/v1/projects", {"name": "New"}, content_type="application/json", headers={"X-CSRFToken": token}
    )
    assert made.status_code == 201
    assert Project.objects.get().name == "New"


def test_a_revoked_token_or_that_of_a_closed_account_is_refused(owner: User, api_for: ApiFor) -> None:
    client = api_for(owner)
    client("GET", "/account")
    client("DELETE", "/account/tokens/current", status=204)
    client("GET", "/account", status=401)
    assert AccessToken.objects.count() == 0
    other = api_for(owner)
    User.objects.update(is_active=False)
    other("GET", "/account", status=401)
