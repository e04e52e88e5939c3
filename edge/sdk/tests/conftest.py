"""The SDK and the helpers of the library's tests are importable; every test gets a broker of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
for _folder in (ROOT / "edge" / "sdk", ROOT / "build-mlops-package" / "tests"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

import roundtable  # noqa: E402
from fl_world import Broker, ModelStoreServer, instance_environment, write_home  # noqa: E402


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test's own."""
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
def store() -> Iterator[ModelStoreServer]:
    """A model store of this test's own."""
    store = ModelStoreServer()
    yield store
    store.close()


@pytest.fixture
def instance(
    tmp_path: Path, broker: Broker, store: ModelStoreServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """This process as the instance of edge 3 in run 7; yields its home."""
    write_home(tmp_path, broker.port)
    for name, value in instance_environment(tmp_path, store.url, 3).items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    roundtable.close(timeout=0)


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what an earlier test's warnings left in the module."""
    monkeypatch.setattr(roundtable, "_silent", False)
    roundtable._complaints.clear()
