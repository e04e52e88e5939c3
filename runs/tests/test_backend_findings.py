"""What workers find of the backends, told to the processes that show and make runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from mlops_site.celery import app
from runs.live.frames import redis_client
from runs.pipeline import backend_choice
from runs.pipeline.backends import BACKENDS
from runs.pipeline.tasks import backends_look
from runs.tests.flow import flow_make
from runs.tests.stub_backend import StubBackend

ELEVEN = datetime(2026, 5, 4, 11, 0, tzinfo=UTC)
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def engine_of_the_worker(monkeypatch: pytest.MonkeyPatch, settings: Settings, redis_url: str) -> StubBackend:
    """An engine that workers reach, and this process does not once they have told of it."""
    settings.BACKEND = "auto"
    backend = StubBackend()
    monkeypatch.setattr(backend, "name", "docker")
    monkeypatch.setattr(backend, "available", lambda: (True, "Engine 20.10."))
    monkeypatch.setattr(backend, "recommended", lambda: (True, "Engine 20.10."))
    monkeypatch.setitem(BACKENDS, "docker", backend)
    backends_look()
    monkeypatch.setattr(backend, "available", lambda: (False, "No engine here."))
    monkeypatch.setattr(backend, "recommended", lambda: (False, "No engine here."))
    return backend


@pytest.mark.django_db(transaction=True)
def test_a_run_is_made_for_the_backend_that_the_worker_has(engine_of_the_worker: StubBackend) -> None:
    run = flow_make().run(backend=None)
    assert (run.backend, run.backend_reason.startswith("Found by itself. Engine 20.10.")) == ("docker", True)


def test_what_is_told_holds_the_time_since_when_it_is_so(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with time_machine.travel(ELEVEN, tick=False):
        backends_look()
    with time_machine.travel(NOON, tick=False):
        backends_look()
    choice = backend_choice.backend_choice("process")
    assert (choice.since, choice.looked_at, choice.by_worker, choice.late) == (ELEVEN, NOON, True, True)
    monkeypatch.setattr(BACKENDS["process"], "available", lambda: (False, "The folder edge/ is missing."))
    with time_machine.travel(NOON, tick=False):
        backends_look()
        choice = backend_choice.backend_choice("process")
    assert (choice.since, choice.late) == (NOON, False)
    assert choice.why == "Chosen for this run. The folder edge/ is missing."


@pytest.mark.parametrize("told", [b"nonsense", b'{"looked_at": 1}', b'{"looked_at": 1, "backends": {}}'])
def test_what_is_told_by_another_version_is_not_believed(redis_url: str, told: bytes) -> None:
    redis_client().set(backend_choice.KEY, told)
    assert backend_choice.backend_choice("process").by_worker is False


def test_without_redis_this_process_looks_itself(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    backends_look()
    assert backend_choice.backend_choice("process").by_worker is False


def test_beat_asks_for_it() -> None:
    assert backends_look.name in {entry["task"] for entry in app.conf.beat_schedule.values()}


@pytest.mark.django_db(transaction=True)
def test_the_form_says_who_found_it_and_when(client: Client, engine_of_the_worker: StubBackend) -> None:
    flow = flow_make()
    client.force_login(flow.user)
    address = reverse("run_create", args=[flow.project.pk])
    page = client.get(address).content.decode()
    assert "Engine 20.10." in page
    assert "Known since" in page
    assert "No engine here." not in page
    with time_machine.travel(datetime.now(UTC).timestamp() + 600):
        assert "No worker has looked since" in client.get(address).content.decode()
    redis_client().delete(backend_choice.KEY)
    page = client.get(address).content.decode()
    assert "No worker has told yet" in page
    assert "No engine here." in page
