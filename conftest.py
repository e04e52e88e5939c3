"""Fixtures of every app's tests: the session's real broker and Redis, and settings that point at them.

Without these fixtures the settings point at closed ports, so that no test talks to a server that happens to run.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.test import override_settings
from kombu import pools
from playwright.sync_api import Browser, sync_playwright
from pytest_django import Settings

from deploy.local.engine import Engine, Registry
from mlops_site.celery import app as celery_app
from tests.containers import (
    NOT_CHECKED,
    SMALL_BASE_IMAGE,
    base_image_make,
    engine_started,
    registry_started,
    small_base_image_make,
)
from tests.servers import MosquittoServer, RedisServer

CLOSED_PORT = 1  # tcpmux: nothing listens there


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything has to be checked (``CI=true``), what could not be is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"This was not checked, and CI=true asks for all: {report.longrepr[2]}"  # type: ignore[index]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly what could not be checked, also where pytest is told to be quiet."""
    reasons = {report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])}
    for reason in sorted(reason for reason in reasons if NOT_CHECKED in reason):
        terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True)


@pytest.fixture(scope="session", autouse=True)
def _no_servers_but_ours() -> Iterator[None]:
    with (
        override_settings(MQTT_HOST="127.0.0.1", MQTT_PORT=CLOSED_PORT),
        _redis_at(f"redis://127.0.0.1:{CLOSED_PORT}/0"),
    ):
        yield


@pytest.fixture(autouse=True)
def _backends_as_this_test_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers of other tests told of the backends is not believed."""
    monkeypatch.setattr("runs.pipeline.backend_choice.KEY", f"pipeline:backends:{secrets.token_hex(8)}")


@pytest.fixture(scope="session", autouse=True)
def _passwords_hashed_quickly() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session", autouse=True)
def _static_files_as_they_are() -> Iterator[None]:
    """Pages name the files by their own names, as nothing was collected."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns where it is missing
    with override_settings(STORAGES={**settings.STORAGES, "staticfiles": plain}):
        yield


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, for the tests of one module.

    Playwright's synchronous interface keeps an event loop in this thread: Django has to be told that this is all right,
    and the loop has to go before other tests run loops of their own, so that the fixtures of pytest-playwright, which
    last as long as the session, do not serve here.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("Chromium is missing. Type: apt-get install chromium")
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        # As root it runs only without its sandbox.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoServer]:
    """The session's MQTT broker, to which ``MQTT_HOST`` and ``MQTT_PORT`` point."""
    with (
        MosquittoServer(tmp_path_factory.mktemp("broker")) as server,
        override_settings(
            MQTT_PORT=server.port, MQTT_PUBLIC_HOST="127.0.0.1", MQTT_PUBLIC_PORT=server.port, MQTT_PUBLIC_TLS=False
        ),
    ):
        yield server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the session's Redis, which the channel layer, the cache and Celery use."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server, _redis_at(server.url):
        yield server.url


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The session's container engine, with the base images of ``tests.containers``."""
    with engine_started("one") as started:
        base_image_make(started)
        small_base_image_make(started)
        yield started


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """The session's registry, which asks for a password."""
    with registry_started() as started:
        yield started


@pytest.fixture
def containers(settings: Settings, engine: Engine, registry: Registry) -> Settings:
    """Settings under which the session's engine and registry are used; tests may change them further."""
    settings.DOCKER_HOST = engine.url
    settings.BASE_IMAGE = SMALL_BASE_IMAGE
    settings.BUILD_NETWORK = settings.INSTANCE_NETWORK = "host"
    settings.REGISTRY = registry.address
    settings.REGISTRY_USER = settings.REGISTRY_PULL_USER = registry.username
    settings.REGISTRY_PASSWORD = settings.REGISTRY_PULL_PASSWORD = registry.password
    return settings


@contextmanager
def _redis_at(url: str) -> Iterator[None]:
    """Point everything that uses Redis at ``url``."""
    layer = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [url], "prefix": "roundtable"},
    }
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}
    with override_settings(
        REDIS_URL=url,
        CELERY_BROKER_URL=url,
        CHANNEL_LAYERS={"default": layer},
        CACHES={"default": cache},
    ):
        previous = celery_app.conf.broker_url
        _celery_use(url)
        try:
            yield
        finally:
            _celery_use(previous)


def _celery_use(url: str) -> None:
    """Send Celery's tasks to ``url``: it reads the settings once, and keeps connections to where they pointed."""
    celery_app.conf.update(broker_url=url)
    pools.reset()
    celery_app._after_fork()  # type: ignore[attr-defined]  # forgets its pools, as a child process must
