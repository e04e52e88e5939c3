"""Deleting runs, putting them aside, and keeping what they reported for some days."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from mlops_site.celery import app
from runs import lifecycle, purge
from runs.lists import RunFilter, runs_listed
from runs.models import Event, LogLine, ModelKind, Point, Project, Receipt, Role, Round, Run, RunDevice, Series
from runs.models import StoredModel as Model
from runs.projects import ProjectRefused, project_delete
from runs.purge import Deadline, lines_purge, runs_purge
from runs.retention import holdings, retention_apply
from runs.states import RunState
from runs.telemetry.packing import series_pack
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import reports_store
from runs.telemetry.tasks import retain
from runs.telemetry.tasks import runs_purge as runs_purge_task
from runs.telemetry.topics import Kind
from runs.tests.conftest import Sent
from runs.tests.rows import edges, metrics, report, run_make, user_make

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sent")]


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, settings: Settings) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "store")},
        },
    }


@pytest.fixture
def ada() -> User:
    return user_make("ada")


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def model_make(run: Run, kind: ModelKind, round_index: int, content: bytes = b"weights") -> Model:
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"models/{run.pk}/{sha256}.safetensors"
    if not default_storage.exists(name):
        default_storage.save(name, ContentFile(content))
    return Model.objects.create(
        run=run, edge_id=0, kind=kind, round_index=round_index, key=f"{kind}-{round_index}", sha256=sha256,
        size=len(content), storage_name=name,
    )  # fmt: skip


def run_full(user: User, *, days_ago: float = 1.0, lines: int = 3) -> Run:
    """Make an ended run that holds something of everything."""
    run = run_make(user=user, state=RunState.RUNNING)
    edge = edges(run)[0]
    points = [("loss", step, step / 2) for step in range(1_100)]
    reports = [report(run, edge, Kind.METRICS, metrics(seq, *points[at : at + 550])) for seq, at in ((1, 0), (2, 550))]
    reports_store(reports, SeriesBook())
    series_pack(Series.objects.get(run=run).pk)
    LogLine.objects.bulk_create(
        [LogLine(run=run, reporter="server", time=0.0, stream="stdout", level="", line="x") for _ in range(lines)]
    )
    Event.objects.create(run=run, edge_id=0, name="train")
    Round.objects.create(run=run, round_index=0, total_rounds=1, running_time=1.0)
    model_make(run, ModelKind.AGGREGATED, 0)
    model_make(run, ModelKind.CLIENT, 0, b"of a client")
    moment = timezone.now() - timedelta(days=days_ago)
    Run.objects.filter(pk=run.pk).update(state=RunState.FINISHED, ended_at=moment, cleaned_at=moment, packed_at=moment)
    run.refresh_from_db()
    return run


def files(run: Run) -> list[str]:
    try:
        return default_storage.listdir(f"models/{run.pk}")[1]
    except FileNotFoundError:
        return []


def test_a_deleted_run_is_nowhere_at_once_and_gone_after_the_purge(ada: User, sent: Sent) -> None:
    run, other = run_full(ada), run_full(ada)
    lifecycle.run_delete(run=run, user=ada)
    assert not Run.objects.filter(pk=run.pk).exists()
    assert not run.project.runs.exists()
    for name in ("run_detail", "run_log_lines", "run_chart"):
        assert client_of(ada).get(reverse(name, args=[run.pk])).status_code == 404
    assert LogLine.objects.filter(run_id=run.pk).count() == 3
    assert runs_purge(60) == 1
    assert not Run.with_deleted.filter(pk=run.pk).exists()
    for model in (LogLine, Series, Event, Round, Model, Receipt, RunDevice):
        assert not model._default_manager.filter(run_id=run.pk).exists(), model
    assert files(run) == []
    assert (LogLine.objects.filter(run=other).count(), len(files(other))) == (3, 2)
    assert Point.objects.filter(series__run=other).count() + 1024 == 1_100
    assert runs_purge(60) == 0


def test_a_purge_that_ends_half_way_goes_on_where_it_was(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "ROWS_AT_ONCE", 2)
    run = run_full(ada, lines=5)
    lifecycle.run_delete(run=run, user=ada)
    assert not lines_purge(run.pk, Deadline(-1))
    assert LogLine.objects.filter(run_id=run.pk).count() == 3
    assert runs_purge(-1) == 0
    assert runs_purge(60) == 1


def test_a_run_under_way_is_not_deleted(ada: User, sent: Sent) -> None:
    run = run_make(user=ada, state=RunState.RUNNING)
    with pytest.raises(lifecycle.RunRefused, match="Stop it first"):
        lifecycle.run_delete(run=run, user=ada)
    assert Run.objects.filter(pk=run.pk).exists()
    with pytest.raises(lifecycle.RunRefused, match="cannot be archived"):
        lifecycle.run_archive(run=run, archived=True)


def test_what_is_still_to_be_cleaned_up_after_is_not_purged_yet(ada: User) -> None:
    run = run_full(ada)
    Run.objects.filter(pk=run.pk).update(cleaned_at=None)
    lifecycle.run_delete(run=run, user=ada)
    assert runs_purge(60) == 0


def test_members_delete_their_own_runs_and_owners_any(ada: User) -> None:
    run = run_full(ada)
    grace, victor = user_make("grace"), user_make("victor")
    run.project.memberships.create(user=grace, role=Role.MEMBER)
    run.project.memberships.create(user=victor, role=Role.VIEWER)
    for user in (grace, victor):
        with pytest.raises(lifecycle.RunRefused):
            lifecycle.run_delete(run=run, user=user)
    url = reverse("runs_delete", args=[run.project_id])
    assert client_of(victor).post(url, {"run": run.pk}).status_code == 403
    assert client_of(user_make("mallory")).post(url, {"run": run.pk}).status_code == 404
    assert client_of(grace).post(url, {"run": run.pk}).status_code == 302
    assert Run.objects.filter(pk=run.pk).exists()
    Run.objects.filter(pk=run.pk).update(started_by=grace)
    assert client_of(grace).post(url, {"run": run.pk}).status_code == 302
    assert not Run.objects.filter(pk=run.pk).exists()


def test_a_deleted_run_cannot_be_started(ada: User) -> None:
    run = run_make(user=ada, state=RunState.CREATED)
    lifecycle.run_delete(run=run, user=ada)
    with pytest.raises(lifecycle.RunRefused, match="deleted"):
        lifecycle.run_start(run=run, user=ada)


def test_a_project_waits_for_what_its_deleted_runs_held(ada: User) -> None:
    run = run_full(ada)
    lifecycle.run_delete(run=run, user=ada)
    with pytest.raises(ProjectRefused, match="still being removed"):
        project_delete(project=run.project)
    runs_purge(60)
    project_delete(project=run.project)
    assert not Project.objects.filter(pk=run.project_id).exists()


def test_the_page_says_what_is_lost(ada: User) -> None:
    run = run_full(ada)
    found = holdings(run)
    assert (found.lines, found.more_lines, found.points, found.rounds, found.models) == (3, False, 1_100, 1, 2)
    response = client_of(ada).get(reverse("runs_delete", args=[run.project_id]), {"run": run.pk})
    page = response.content.decode()
    for text in (f"Delete {run.name}?", "1,100", "Delete for good"):
        assert text in page
    assert client_of(ada).get(reverse("runs_delete", args=[run.project_id]), {"run": "x"}).status_code == 404


def test_runs_of_another_project_are_left_alone(ada: User) -> None:
    run, other = run_full(ada), run_full(ada)
    client_of(ada).post(reverse("runs_delete", args=[run.project_id]), {"run": [run.pk, other.pk]})
    assert list(Run.objects.all()) == [other]


def test_several_runs_are_archived_brought_back_and_stopped(ada: User) -> None:
    run = run_full(ada)
    running = run_make(user=ada, state=RunState.RUNNING)
    Run.objects.filter(pk=running.pk).update(project=run.project)
    url, page = reverse("runs_bulk", args=[run.project_id]), run.project.get_absolute_url()
    client = client_of(ada)

    def names(query: str) -> list[str]:
        return [row.name for row in client.get(page + query).context["listing"].page]

    response = client.post(url, {"run": [run.pk, running.pk], "action": "archive", "back": f"{page}?sort=name"})
    assert response.headers["Location"] == f"{page}?sort=name"
    assert (names(""), names("?state=archived")) == ([running.name], [run.name])
    client.post(url, {"run": [run.pk], "action": "unarchive", "back": "https://elsewhere.example/"})
    assert set(names("")) == {run.name, running.name}
    client.post(url, {"run": [run.pk, running.pk], "action": "stop"})
    running.refresh_from_db()
    assert (running.state, running.reason) == (RunState.KILLED, "Stopped by ada.")
    assert (
        client.post(url, {"run": [run.pk], "action": "delete"})
        .headers["Location"]
        .startswith(reverse("runs_delete", args=[run.project_id]))
    )
    assert client.post(url, {"run": [run.pk], "action": "dance"}).status_code == 400


def test_runs_are_found_by_who_and_device(ada: User) -> None:
    run = run_full(ada)
    Run.objects.filter(pk=run.pk).update(started_by=user_make("grace"))
    rows = runs_listed(run.project.runs.all())
    edge = edges(run)[1]
    for parameters, is_found in [
        ({"who": "grace"}, True), ({"who": "ada"}, False), ({"device": "vice-2"}, True), ({"device": str(edge)}, True),
        ({"device": "99999999"}, False), ({"state": "ended"}, True), ({"state": "active"}, False),
        ({"state": "nonsense"}, True),
    ]:  # fmt: skip
        assert RunFilter.of(parameters).apply(rows).exists() is is_found, parameters


@pytest.mark.parametrize("sort", ["name", "state", "devices", "rounds", "best", "duration", "who", "created"])
def test_the_runs_are_sorted_by_every_column(ada: User, sort: str) -> None:
    low, high = run_full(ada), run_full(ada)
    user = user_make("zoe")
    assert low.started_at is not None
    Run.objects.filter(pk=low.pk).update(
        name="a", state=RunState.FAILED, round_index=1, best_metric={"name": "x", "value": 9},
        ended_at=low.started_at + timedelta(seconds=1), created_at=timezone.now() - timedelta(days=1), started_by=ada,
    )  # fmt: skip
    Run.objects.filter(pk=high.pk).update(
        project=low.project, name="b", round_index=2, best_metric={"name": "x", "value": 10.5},
        ended_at=low.started_at + timedelta(hours=1), started_by=user,
    )  # fmt: skip
    RunDevice.objects.filter(run=low).first().delete()  # type: ignore[union-attr]
    client, page = client_of(ada), low.project.get_absolute_url()
    for direction, wanted in (("", ["a", "b"]), ("-", ["b", "a"])):
        rows = client.get(f"{page}?sort={direction}{sort}").context["listing"].page
        assert [row.name for row in rows] == wanted


def test_a_project_keeps_what_it_wants_for_as_long_as_it_wants(ada: User) -> None:
    old, new, other = run_full(ada, days_ago=10), run_full(ada, days_ago=2), run_full(ada, days_ago=10)
    Run.objects.filter(pk=new.pk).update(project=old.project)
    response = client_of(ada).post(
        reverse("project_retention", args=[old.project_id]),
        {"log_days": "5", "point_days": "5", "client_model_days": "5"},
    )
    assert response.status_code == 302
    assert retention_apply(60)
    assert not LogLine.objects.filter(run=old).exists()
    series = Series.objects.get(run=old)
    assert (series.count, series.blocks.count(), series.points.count(), series.last_value) == (0, 0, 0, 549.5)
    assert [model.kind for model in old.models.all()] == [ModelKind.AGGREGATED]
    assert len(files(old)) == 1
    for run in (new, other):
        assert (LogLine.objects.filter(run=run).count(), run.models.count()) == (3, 2)
        assert Series.objects.get(run=run).count == 1_100
    assert retention_apply(60)


def test_the_storage_page_is_for_owners(ada: User) -> None:
    run = run_full(ada)
    member = user_make("grace")
    run.project.memberships.create(user=member, role=Role.MEMBER)
    url = reverse("project_retention", args=[run.project_id])
    assert client_of(member).get(url).status_code == 403
    assert client_of(user_make("mallory")).get(url).status_code == 404
    assert "1,100 points" in client_of(ada).get(url).content.decode()
    assert client_of(ada).post(url, {"log_days": "0"}).status_code == 200
    run.project.refresh_from_db()
    assert run.project.log_days is None


def test_both_tasks_are_periodic() -> None:
    periodic = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {runs_purge_task.name, retain.name} <= periodic
    assert runs_purge_task.name == lifecycle.effects.RUNS_PURGE
