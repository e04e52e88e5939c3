"""Fixtures of the tests of runs."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_site.celery import app
from runs.pipeline.backends import BACKENDS
from runs.tests.stub_backend import StubBackend

Sent = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubBackend:
    """A backend that stands in for the process backend."""
    backend = StubBackend()
    monkeypatch.setitem(BACKENDS, "process", backend)
    return backend


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, stub: StubBackend) -> Sent:
    """The tasks that were put on the queue: (last part of the name, arguments). Nothing runs them."""
    tasks: Sent = []

    def send(name: str, *, kwargs: dict[str, Any], queue: str, retry: bool) -> None:
        tasks.append((name.rpartition(".")[2], kwargs))

    monkeypatch.setattr(app, "send_task", send)
    return tasks
