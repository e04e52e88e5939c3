"""Fixtures of the agent's tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from container_harness import publish  # noqa: E402 - the path is set above
from edge_harness import Broker, Platform, PlatformServer  # noqa: E402

from deploy.local.engine import Engine, Registry  # noqa: E402


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def platform(broker: Broker) -> Iterator[Platform]:
    """The platform's side of the broker."""
    platform = Platform(broker.port)
    yield platform
    platform.close()


@pytest.fixture
def server(broker: Broker) -> Iterator[PlatformServer]:
    """The platform's HTTP side."""
    server = PlatformServer(broker.port)
    yield server
    server.close()


@pytest.fixture(scope="session")
def image(engine: Engine, registry: Registry) -> str:
    """An image in the registry whose entry file runs the code in its first argument, by digest."""
    return publish(engine, registry)
