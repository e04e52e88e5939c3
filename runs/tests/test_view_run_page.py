"""The run page: who sees it, what it says before the socket answers, and what its buttons do."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.tests.objects import make_device, make_project, make_run, make_user
from runs.lifecycle import naming
from runs.models import Membership, Project, Role, Run, Stage, StageName, StoredModel
from runs.states import InstanceStatus, RunState, StageState
from runs.tests.conftest import Sent
from runs.views import run_page

pytestmark = pytest.mark.django_db

MANIFEST = {
    "kind": "server",
    "root": "package",
    "model_config": [],
    "hyperparameters_config": [],
    "entry_file": "fedml/main.py",
    "entry_arguments": [
        {"name": "model", "value": "${model_config.modelName}", "line": 1},
        {"name": "lr", "value": "${hyperparameters_config.lr}", "line": 2},
        {"name": "rank", "value": "${FEDSYS.CLIENT_INDEX}", "line": 3},
    ],
}
COPY: dict[str, Any] = {
    "name": "FedAvg",
    "model_config": [{"name": "modelName", "type": "string", "value": "mlp; rm -rf"}],
    "hyperparameters_config": [{"name": "lr", "type": "float", "value": 0.03}],
    "private_data_path": "",
    "synthetic_data_url": "",
    "synthetic_data_sha256": "",
    "server": MANIFEST,
    "client": MANIFEST,
    "overrides": ["hyperparameters_config.lr"],
}


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def project(ada: User) -> Project:
    """Owned by ada, with grace as a member and vera as a viewer."""
    make_user("grace")
    make_user("vera")
    return make_project(ada, "Digits", member="grace", viewer="vera")


@pytest.fixture
def run(ada: User, project: Project) -> Run:
    return run_on(project, ada, ["ward-north", "ward-south"])


def run_on(project: Project, owner: User, names: list[str]) -> Run:
    run = make_run(project, [make_device(owner, name) for name in names], name="eye_rain")
    run.configuration_copy = COPY
    run.save()
    return run


def as_user(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def page(name: str, run: Run, query: str = "") -> str:
    return as_user(name).get(reverse("run_detail", args=[run.pk]) + query).content.decode()


def refusal(client: Client, url: str, **fields: str) -> tuple[int, str]:
    response = client.post(url, fields, headers={"accept": "application/json"})
    return response.status_code, response.json()["error"]


# --- Who ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "grace", "vera"])
def test_members_of_the_project_see_the_page(run: Run, name: str) -> None:
    assert as_user(name).get(reverse("run_detail", args=[run.pk])).status_code == 200


@pytest.mark.parametrize("page_name", ["run_detail", "run_commands", "run_log_lines", "run_model_list"])
def test_it_does_not_exist_for_a_stranger(run: Run, page_name: str) -> None:
    make_user("mallory")
    assert as_user("mallory").get(reverse(page_name, args=[run.pk])).status_code == 404
    assert as_user("ada").get(reverse(page_name, args=[run.pk + 1])).status_code == 404


def test_it_asks_who_is_not_signed_in_to_sign_in(run: Run) -> None:
    url = reverse("run_detail", args=[run.pk])
    response = Client().get(url)
    assert (response.status_code, response["Location"]) == (302, f"{reverse('login')}?next={url}")


def _changes(run: Run) -> list[str]:
    return [
        reverse("run_start", args=[run.pk]),
        reverse("run_stop", args=[run.pk]),
        reverse("run_rename", args=[run.pk]),
        reverse("stage_retry", args=[run.pk, "launch"]),
    ]


def test_a_viewer_and_a_stranger_cannot_change_it(run: Run, sent: Sent) -> None:
    make_user("mallory")
    Stage.objects.create(run=run, position=0, name=StageName.LAUNCH, state=StageState.FAILED)
    for url in _changes(run):
        assert as_user("vera").post(url, {"name": "other"}).status_code == 403
        assert as_user("mallory").post(url, {"name": "other"}).status_code == 404
        assert as_user("ada").get(url).status_code == 405
    run.refresh_from_db()
    assert (run.state, run.name, sent) == (RunState.CREATED, "eye_rain", [])


def test_a_viewer_is_offered_no_buttons(run: Run) -> None:
    assert "data-run-action" not in page("vera", run)
    assert page("ada", run).count('data-run-action="start"') == 1


# --- What the page says ---------------------------------------------------------------------------------------------


def test_the_page_says_what_is_known_before_the_socket_answers(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(
        state=RunState.FAILED, reason="The aggregator ended.", round_index=6, total_rounds=12
    )
    run.run_devices.filter(client_index=2).update(
        status=InstanceStatus.FAILED, reason="No module named torch", exit_code=1
    )
    Stage.objects.create(run=run, position=0, name=StageName.BUILD_SERVER, state=StageState.FAILED, reason="Disk full.")
    text = page("ada", run)
    assert text.count('<span class="state-label">Failed</span>') == 3  # the run, and the device twice
    for said in ("The aggregator ended.", "No module named torch", "Build server image", "Disk full.", "ward-south"):
        assert said in text
    assert '<progress class="run-bar" data-number="bar" max="12" value="7"' in text


def test_the_page_carries_the_items_of_the_live_frames(run: Run) -> None:
    items = as_user("ada").get(reverse("run_detail", args=[run.pk])).context["items"]
    assert [(item["t"], item["name"]) for item in items] == [
        ("run", "eye_rain"),
        ("device", "ward-north"),
        ("device", "ward-south"),
    ]


@pytest.mark.parametrize(("query", "tab"), [("", "overview"), ("?tab=logs", "logs"), ("?tab=<b>", "overview")])
def test_the_address_says_which_tab_is_open(run: Run, query: str, tab: str) -> None:
    response = as_user("ada").get(reverse("run_detail", args=[run.pk]) + query)
    assert response.context["open_tab"] == tab
    assert response.content.decode().count('aria-selected="true"') == 2  # and the first kind of models


def test_hostile_names_are_text(run: Run) -> None:
    hostile = "</script><script>alert(1)</script>"
    Run.objects.filter(pk=run.pk).update(name=hostile, reason=hostile)
    run.run_devices.update(reason=hostile)
    assert hostile not in page("ada", run)


def test_the_page_allows_no_inline_script_and_has_none(run: Run) -> None:
    response = as_user("ada").get(reverse("run_detail", args=[run.pk]))
    assert "script-src 'self';" in response["Content-Security-Policy"]
    text = response.content.decode()
    assert " style=" not in text
    assert " onclick=" not in text
    assert text.count("<script") == text.count("<script src=") + text.count(
        '<script id="run-items" type="application/json"'
    )


def test_it_needs_the_same_queries_for_many_devices(
    ada: User, project: Project, run: Run, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    many = run_on(project, ada, [f"bed-{number}" for number in range(20)])
    client = as_user("ada")
    for each in (run, many):
        with django_assert_num_queries(9):
            client.get(reverse("run_detail", args=[each.pk]))


# --- Configuration --------------------------------------------------------------------------------------------------


def test_it_shows_the_backend_with_the_reason_and_the_images_by_digest(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(backend="docker", backend_reason="Found by itself. Engine 20.10.")
    digest = "0123456789abcdef" * 4
    reference = f"registry.example:5000/roundtable-server@sha256:{digest}"
    run.stages.update_or_create(
        name=StageName.PUSH_SERVER, defaults={"position": 1, "result": {"reference": reference}}
    )
    text = page("ada", run)
    assert "Found by itself. Engine 20.10." in text
    assert f'<code title="{reference}">registry.example:5000/roundtable-server@sha256:0123456789ab…</code>' in text


def test_it_marks_what_was_changed_for_this_run(run: Run) -> None:
    rows = as_user("ada").get(reverse("run_detail", args=[run.pk])).context["sections"]
    assert [(section["title"], section["rows"]) for section in rows] == [
        ("Model", [{"name": "modelName", "type": "string", "text": "mlp; rm -rf", "overridden": False}]),
        ("Hyper-parameters", [{"name": "lr", "type": "float", "text": "0.03", "overridden": True}]),
    ]


def test_it_shows_the_command_of_everyone(run: Run) -> None:
    commands = as_user("ada").get(reverse("run_commands", args=[run.pk])).context["commands"]
    command = "python fedml/main.py --model 'mlp; rm -rf' --lr 0.03 --rank"
    assert commands == [
        {"label": "Aggregator", "text": f"{command} 0"},
        {"label": "ward-north", "text": f"{command} 1"},
        {"label": "ward-south", "text": f"{command} 2"},
    ]


def test_it_says_why_a_command_cannot_be_made(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(configuration_copy={**COPY, "model_config": []})
    (first, *_) = as_user("ada").get(reverse("run_commands", args=[run.pk])).context["commands"]
    assert "modelName" in first["error"]


# --- Buttons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "grace"])
def test_an_owner_and_a_member_start_and_stop_it(run: Run, sent: Sent, name: str) -> None:
    client = as_user(name)
    assert client.post(reverse("run_start", args=[run.pk]), headers={"accept": "application/json"}).status_code == 204
    run.refresh_from_db()
    assert (run.state, run.started_by) == (RunState.QUEUED, User.objects.get(username=name))
    assert client.post(reverse("run_stop", args=[run.pk]), headers={"accept": "application/json"}).status_code == 204
    run.refresh_from_db()
    assert run.state in (RunState.STOPPING, RunState.KILLED)
    assert run.reason == f"Stopped by {name}."


def test_what_is_refused_is_said(run: Run, sent: Sent) -> None:
    client = as_user("ada")
    assert refusal(client, reverse("run_stop", args=[run.pk])) == (
        409,
        "This run was not started, so that there is nothing to stop.",
    )
    response = client.post(reverse("run_stop", args=[run.pk]), headers={"accept": "text/html"})
    assert (response.status_code, response["Location"]) == (302, reverse("run_detail", args=[run.pk]))
    shown = [str(message) for message in client.get(response["Location"]).context["messages"]]
    assert shown == ["This run was not started, so that there is nothing to stop."]


def test_only_a_failed_stage_is_tried_again(run: Run, sent: Sent) -> None:
    Stage.objects.create(run=run, position=4, name=StageName.LAUNCH, state=StageState.DONE)
    status, error = refusal(as_user("ada"), reverse("stage_retry", args=[run.pk, "launch"]))
    assert status == 409
    assert error.endswith(".")
    assert as_user("ada").post(reverse("stage_retry", args=[run.pk, "dispatch"])).status_code == 404
    assert sent == []


def test_a_run_is_renamed_in_every_open_page(run: Run, django_capture_on_commit_callbacks: Any) -> None:
    frame = run.frame_number
    response = as_user("grace").post(reverse("run_rename", args=[run.pk]), {"name": "  dinner \n sheep "})
    assert response.status_code == 302
    run.refresh_from_db()
    assert (run.name, run.frame_number) == ("dinner sheep", frame + 1)


def test_a_rename_tells_of_the_run_as_it_is_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the run and the rename, the run goes on."""
    recorded: list[Any] = []
    stale = Run.objects.get(pk=run.pk)
    Run.objects.filter(pk=run.pk).update(state=RunState.RUNNING, frame_number=F("frame_number") + 7)
    monkeypatch.setattr(run_page, "run_for_change", lambda user, run_id: stale)
    monkeypatch.setattr(naming, "frame_record", lambda run_id, items: recorded.append((run_id, items)))
    as_user("grace").post(reverse("run_rename", args=[run.pk]), {"name": "new"})
    now = Run.objects.get(pk=run.pk)
    assert (now.name, now.state, now.frame_number) == ("new", RunState.RUNNING, run.frame_number + 7)
    ((run_id, (item,)),) = recorded
    assert (run_id, item["t"], item["name"], item["state"]) == (run.pk, "run", "new", "RUNNING")


@pytest.mark.parametrize("name", ["", "   ", "x" * 121])
def test_a_name_has_1_to_120_characters(run: Run, name: str) -> None:
    status, error = refusal(as_user("ada"), reverse("run_rename", args=[run.pk]), name=name)
    assert (status, error) == (409, "A run's name has 1 to 120 characters.")
    run.refresh_from_db()
    assert run.name == "eye_rain"


def test_who_loses_the_project_loses_the_run(run: Run) -> None:
    Membership.objects.filter(user__username="vera", role=Role.VIEWER).delete()
    assert as_user("vera").get(reverse("run_detail", args=[run.pk])).status_code == 404


# --- Models ---------------------------------------------------------------------------------------------------------


def test_all_models_are_listed_newest_first(run: Run) -> None:
    for number in range(3):
        StoredModel.objects.create(
            run=run, edge_id=0, kind="aggregated", round_index=number, key=str(number), sha256="0" * 64, size=number,
            storage_name="",
        )  # fmt: skip
    models = as_user("vera").get(reverse("run_model_list", args=[run.pk])).json()["models"]
    assert [(model["t"], model["round_index"], model["url"]) for model in models] == [
        ("model", 2, None),
        ("model", 1, None),
        ("model", 0, None),
    ]
