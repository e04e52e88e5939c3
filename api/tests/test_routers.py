"""What the routers do, beside who may: a way through each of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from accounts.tests.objects import make_device
from api.models import IdempotentRequest
from api.tests.conftest import ApiFor
from configurations.models import Configuration, Package
from configurations.tests.packages import package_bytes
from devices.models import Device
from runs.lifecycle import run_create
from runs.models import LogLine, Point, Project, Round, Run, Series, StoredModel
from runs.states import RunState
from runs.tests.conftest import Sent, sent, stub

__all__ = ["sent", "stub"]


@pytest.fixture
def run(project: Project, owner: User, configuration: Configuration, device: Device) -> Run:
    return run_create(project=project, user=owner, configuration=configuration, device_ids=[device.pk])


def test_projects_are_made_changed_listed_and_deleted(owner: User, api_for: ApiFor) -> None:
    api = api_for(owner)
    made = api("POST", "/projects", {"name": "Digits", "description": "of hands"}, status=201)
    assert (made["role"], made["member_count"], made["created_by"]) == ("owner", 1, "ada")
    assert api("PATCH", f"/projects/{made['id']}", {"name": "Numbers"})["description"] == "of hands"
    api("POST", "/projects", {"name": "Another"}, status=201)
    listed = api("GET", "/projects?sort=name&page_size=1&page=2")
    assert ([row["name"] for row in listed["items"]], listed["total"]) == (["Numbers"], 2)
    assert api("GET", "/projects?q=anoth")["total"] == 1
    refused = api("GET", "/projects?sort=colour", status=422)
    assert refused["errors"][0]["field"] == "sort"
    blank = api("POST", "/projects", {"name": "  "}, status=422)
    assert blank["errors"] == [{"field": "name", "message": "This field is required.", "line": None}]
    api("DELETE", f"/projects/{made['id']}", status=204)
    api("GET", f"/projects/{made['id']}", status=404)


def test_members_come_change_and_go(owner: User, stranger: User, project: Project, api_for: ApiFor) -> None:
    api, path = api_for(owner), f"/projects/{project.pk}/members"
    assert api("POST", path, {"username": "eve", "role": "viewer"})["role"] == "viewer"
    eve = api("POST", path, {"username": "eve", "role": "member"})
    assert [row["username"] for row in api("GET", path)] == ["ada", "grace", "vera", "eve"]
    assert "There is no user named nobody" in api("POST", path, {"username": "nobody"}, status=409)["detail"]
    last = api("POST", path, {"username": "ada", "role": "member"}, status=409)
    assert last["detail"].startswith("A project needs an owner.")
    api_for(stranger)("DELETE", f"{path}/{eve['id']}", status=204)
    assert project.memberships.count() == 3


def test_packages_come_as_the_body_and_bad_ones_are_explained(owner: User, api_for: ApiFor) -> None:
    api, content = api_for(owner), package_bytes()
    path = "/packages?kind=server&file_name=mine.zip"

    def upload(body: bytes, path: str = path) -> Any:
        return api._client.generic("POST", f"/api/v1{path}", body, "application/octet-stream", headers=_token(api))

    made = upload(content)
    assert made.status_code == 201
    assert (made.json()["sha256"], made.json()["file_name"]) == (hashlib.sha256(content).hexdigest(), "mine.zip")
    assert upload(content).json()["sha256"] == made.json()["sha256"]
    assert Package.objects.count() == 1
    bad = upload(b"no zip")
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "package.zip")
    assert api("GET", "/packages?kind=client")["total"] == 0
    assert api("GET", f"/packages/server/{made.json()['sha256']}")["entry_file"] == "fedml/main.py"
    data = upload(b"a,b\n1,2\n3,4\n", "/data?file_name=points.csv")
    assert (data.status_code, data.json().get("name", data.content)) == (201, "points.csv")


def _token(api: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.token}"}


def test_a_package_larger_than_allowed_is_refused_before_it_is_read(
    owner: User, api_for: ApiFor, settings: Any
) -> None:
    settings.PACKAGE_MAX_BYTES = 10
    api = api_for(owner)
    refused = api._client.generic(
        "POST", "/api/v1/packages?kind=server", b"x" * 11, "application/zip", headers=_token(api)
    )
    assert (refused.status_code, refused.json()["type"]) == (413, "urn:roundtable:problem:too-large")


def test_configurations_are_filled_in_saved_cloned_and_deleted(
    owner: User, configuration: Configuration, project: Project, api_for: ApiFor
) -> None:
    api = api_for(owner)
    packages = {
        "server_package": configuration.server_package.sha256,
        "client_package": configuration.client_package.sha256,
    }
    made = api("POST", "/configurations", {"name": "Mine", **packages, "project_id": project.pk}, status=201)
    assert {"name": "lr", "type": "float", "value": 0.03} in made["hyperparameters_config"]
    assert made["model_config"] == [{"name": "modelName", "type": "string", "value": "lr"}]
    taken = api("POST", "/configurations", {"name": "Mine", **packages}, status=422)
    assert "You have a configuration of this name already." in taken["detail"]
    rows = [
        {"name": "lr", "value": 1, "type": "float"},
        {"name": "comm_round", "value": 4},
        {"name": "client_num_per_round", "value": 2},
    ]
    saved = api("PUT", f"/configurations/{made['id']}", {"name": "Mine", **packages, "hyperparameters_config": rows})
    assert [row["value"] for row in saved["hyperparameters_config"]] == [1.0, 4, 2]
    assert (saved["project_id"], saved["hyperparameters_config"][1]["type"]) == (None, "integer")
    odd = {"name": "Odd", **packages, "hyperparameters_config": [{"name": "lr", "value": "x", "type": "float"}]}
    assert api("POST", "/configurations", odd, status=422)["errors"][0]["field"] == "hyperparameters_config.lr"
    missing = {"name": "Odd", **packages, "hyperparameters_config": [{"name": "lr", "value": 0.1}]}
    assert api("POST", "/configurations", missing, status=422)["errors"]
    assert api("POST", f"/configurations/{made['id']}/clone", {}, status=201)["name"] == "Mine (copy)"
    commands = api("GET", f"/configurations/{made['id']}/commands")
    assert [each["kind"] for each in commands] == ["server", "client"]
    api("DELETE", f"/configurations/{made['id']}", status=204)
    assert not Configuration.objects.filter(pk=made["id"]).exists()


def test_devices_are_listed_renamed_and_get_codes(owner: User, device: Device, api_for: ApiFor) -> None:
    api = api_for(owner)
    make_device(owner, "away", online=False)
    rows = api("GET", "/devices?sort=name")["items"]
    assert [(row["name"], row["state"]) for row in rows] == [("away", "OFFLINE"), ("ward-north", "IDLE")]
    assert api("GET", "/devices?whose=team")["total"] == 0
    assert api("PATCH", f"/devices/{device.pk}", {"name": " new name "})["name"] == "new name"
    assert api("PATCH", f"/devices/{device.pk}", {"name": " \t "}, status=422)["errors"][0]["field"] == "name"
    code = api("POST", "/devices/codes", status=201)
    assert code["command"].startswith(f"edge/run.sh {code['code']} --server ")
    shown = api("GET", f"/devices/codes/{code['id']}")
    assert (shown["device_id"], shown["expired"], "code" in shown) == (None, False, False)


def test_a_broker_that_is_away_is_told_and_changes_nothing(
    owner: User, device: Device, api_for: ApiFor, settings: Any
) -> None:
    settings.MQTT_PORT = 1  # nothing listens there
    refused = api_for(owner).response("DELETE", f"/devices/{device.pk}")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert Device.objects.get().unbound_at is None


def test_a_run_is_made_once_however_often_it_is_sent(
    member: User, project: Project, configuration: Configuration, device: Device, api_for: ApiFor
) -> None:
    api, path = api_for(member), f"/projects/{project.pk}/runs"
    plan = {
        "configuration_id": configuration.pk,
        "device_ids": [device.pk],
        "overrides": {"model_config.modelName": "cnn"},
    }
    key = {"Idempotency-Key": "retry-1"}
    first = api.response("POST", path, plan, headers=key)
    again = api.response("POST", path, plan, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert Run.objects.count() == 1
    other = api("POST", path, {**plan, "name": "other"}, status=422, headers=key)
    assert other["type"] == "urn:roundtable:problem:idempotency-key-reused"
    api("POST", path, plan, status=201)
    assert Run.objects.count() == 2
    assert first.json()["overrides"] == ["model_config.modelName"]


def test_a_refused_request_may_be_put_right_under_its_key(
    owner: User, project: Project, configuration: Configuration, device: Device, api_for: ApiFor
) -> None:
    api, path, key = api_for(owner), f"/projects/{project.pk}/runs", {"Idempotency-Key": "k"}
    plan = {"configuration_id": configuration.pk, "device_ids": [device.pk + 100]}
    assert "cannot be used in this project" in api("POST", path, plan, status=422, headers=key)["detail"]
    assert (Run.objects.count(), IdempotentRequest.objects.count()) == (0, 0)
    api("POST", path, {**plan, "device_ids": [device.pk]}, status=201, headers=key)
    assert Run.objects.count() == 1


def test_a_run_starts_and_stops(
    owner: User, project: Project, configuration: Configuration, device: Device, api_for: ApiFor, sent: Sent
) -> None:
    api = api_for(owner)
    plan = {"configuration_id": configuration.pk, "device_ids": [device.pk], "start": True, "name": "first"}
    made = api("POST", f"/projects/{project.pk}/runs", plan, status=201)
    assert (made["state"], made["start_refused"]) == ("QUEUED", "")
    second = api("POST", f"/projects/{project.pk}/runs", {**plan, "name": "second"}, status=201)
    assert (second["state"], second["start_refused"][:10]) == ("CREATED", "ward-north")
    path = f"/runs/{made['id']}"
    assert api("POST", f"{path}/start", status=409)["detail"] == "This run was started already."
    assert [stage["state"] for stage in api("GET", f"{path}/stages")][:2] == ["PENDING", "PENDING"]
    assert api("POST", f"{path}/stages/launch/retry", status=409)["type"] == "urn:roundtable:problem:refused"
    api("POST", f"{path}/stages/odd/retry", status=422)
    assert api("POST", f"{path}/stop", {"reason": "enough"})["state"] in ("STOPPING", "KILLED")
    assert api("GET", f"/runs?state=CREATED&project_id={project.pk}")["total"] == 1
    assert api("PATCH", path, {"name": "  dinner   sheep "})["name"] == "dinner sheep"
    assert api("PATCH", path, {"name": " "}, status=422)["detail"] == "A run's name has 1 to 120 characters."


def test_a_run_repeats_another(owner: User, project: Project, run: Run, api_for: ApiFor) -> None:
    api, devices = api_for(owner), list(run.run_devices.values_list("edge_id", flat=True))
    again = api("POST", f"/projects/{project.pk}/runs", {"repeats_run_id": run.pk, "device_ids": devices}, status=201)
    assert again["repeats_run_id"] == run.pk
    both = {"repeats_run_id": run.pk, "configuration_id": run.configuration_id, "device_ids": devices}
    api("POST", f"/projects/{project.pk}/runs", both, status=422)
    commands = api("POST", f"/projects/{project.pk}/runs/preview", {"repeats_run_id": run.pk, "device_ids": devices})
    assert [each["reporter"] for each in commands] == ["server", "client 1: ward-north"]


def test_the_status_waits_for_news(owner: User, run: Run, api_for: ApiFor) -> None:
    api = api_for(owner)
    first = api("GET", f"/runs/{run.pk}/status")
    assert (first["run"]["state"], first["devices"][0]["status"]) == ("CREATED", "IDLE")
    assert api("GET", f"/runs/{run.pk}/status?after={first['cursor']}&wait=0.1") == first
    api("PATCH", f"/runs/{run.pk}", {"name": "renamed"})
    later = api("GET", f"/runs/{run.pk}/status?after={first['cursor']}&wait=30")
    assert (later["cursor"], later["run"]["name"]) == (first["cursor"] + 1, "renamed")
    api("GET", f"/runs/{run.pk}/status?wait=31", status=422)


def test_what_a_run_measured_is_read_and_exported(owner: User, run: Run, api_for: ApiFor) -> None:
    api = api_for(owner)
    series = Series.objects.create(run=run, edge_id=0, name="accuracy", count=2, last_value=0.5)
    Point.objects.create(series=series, step=1, round=1, time=2.0, value=0.5)
    Point.objects.create(series=series, step=2, time=3.0, value=None, flag=1)
    Round.objects.create(run=run, round_index=0, total_rounds=3, running_time=1.5)
    listed = api("GET", f"/runs/{run.pk}/series")
    assert [(row["reporter"], row["name"], row["last_value"]) for row in listed] == [("server", "accuracy", 0.5)]
    (points,) = api("GET", f"/runs/{run.pk}/points?series={series.pk}")
    assert (points["step"], points["round"], points["value"], points["flag"]) == (
        [1, 2],
        [1, None],
        [0.5, None],
        [0, 1],
    )
    assert api("GET", f"/runs/{run.pk}/rounds")[0]["running_time"] == 1.5
    assert api("GET", f"/runs/{run.pk}/events") == []
    table = api.response("GET", f"/runs/{run.pk}/export?format=csv").getvalue().decode().splitlines()
    assert table[1:] == ["0,aggregator,metric,accuracy,1.0,1,2.0,0.5", "0,aggregator,metric,accuracy,2.0,,3.0,nan"]
    archive = api.response("GET", f"/runs/{run.pk}/export?format=tensorboard")
    assert archive.getvalue()[:2] == b"PK"


def test_log_lines_are_searched_and_followed(owner: User, run: Run, api_for: ApiFor) -> None:
    api, path = api_for(owner), f"/runs/{run.pk}/logs"
    ids = [
        LogLine.objects.create(
            run=run, reporter="server", time=float(n), stream="stdout", level=level, line=f"line {n}"
        ).pk
        for n, level in enumerate(["INFO", "ERROR", ""])
    ]
    last = api("GET", f"{path}?limit=2")
    assert ([line["line"] for line in last["lines"]], last["more"], last["cursor"]) == (
        ["line 1", "line 2"],
        True,
        ids[2],
    )
    assert [line["id"] for line in api("GET", f"{path}?level=ERROR")["lines"]] == [ids[1]]
    assert [line["id"] for line in api("GET", f"{path}?q=line%200")["lines"]] == [ids[0]]
    assert [line["id"] for line in api("GET", f"{path}?after={ids[0]}&limit=1")["lines"]] == [ids[1]]
    Run.objects.update(state=RunState.FINISHED, ended_at=timezone.now())
    assert api("GET", f"{path}?after={ids[2]}&wait=30") == {"lines": [], "more": False, "cursor": ids[2], "ended": True}
    api("GET", f"{path}?after=1&before=2", status=422)


def test_models_are_listed_and_downloaded(owner: User, run: Run, store: Path, api_for: ApiFor) -> None:
    api = api_for(owner)
    (store / "models").mkdir(parents=True)
    (store / "models" / "w").write_bytes(b"weights")
    fields = {
        "run": run,
        "edge_id": 0,
        "kind": "aggregated",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "size": 7,
    }
    model = StoredModel.objects.create(round_index=0, key="a0", storage_name="models/w", **fields)
    absent = StoredModel.objects.create(round_index=1, key="a1", storage_name="", **fields)
    rows = api("GET", f"/runs/{run.pk}/models?sort=round")["items"]
    assert [(row["round_index"], row["stored"]) for row in rows] == [(0, True), (1, False)]
    assert api("GET", f"/runs/{run.pk}/models?kind=client")["total"] == 0
    assert api.response("GET", f"/runs/{run.pk}/models/{model.pk}/file").getvalue() == b"weights"
    api("GET", f"/runs/{run.pk}/models/{absent.pk}/file", status=404)


@pytest.mark.parametrize(
    "body", [b"{", b'{"name": "\\u0000"}', b'{"name": "\\ud800"}', b"[" * 100_000, b"\xff", b"NaN"]
)
def test_a_body_that_nobody_could_store_is_refused(body: bytes, owner: User, api_for: ApiFor) -> None:
    api = api_for(owner)
    refused = api._client.generic("POST", "/api/v1/projects", body, "application/json", headers=_token(api))
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, "application/problem+json")
    assert Project.objects.count() == 0


def test_errors_outside_of_operations_have_the_same_shape(owner: User, api_for: ApiFor) -> None:
    api = api_for(owner)
    assert api("GET", "/nothing", status=404)["type"] == "urn:roundtable:problem:not-found"
    refused = api.response("DELETE", "/runs")
    assert (refused.status_code, refused.headers["Allow"], refused.json()["status"]) == (405, "GET", 405)
    assert api("GET", "/runs/99999999999999999999", status=422)["errors"][0]["field"] == "run_id"
