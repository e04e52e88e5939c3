"""The library, the SDK and the helpers are importable; one package is built for all tests."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
for _folder in (Path(__file__).parent, ROOT, ROOT.parent / "edge" / "sdk"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from fl_world import Broker, ModelStoreServer, World, mqtt_client  # noqa: E402

import build  # noqa: E402


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built server package, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    assert build.main(["--output", str(folder / "dist")]) == 0
    with zipfile.ZipFile(folder / "dist" / "server" / "package.zip") as archive:
        archive.extractall(folder)
    return folder / "package"


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
def make_world(
    package: Path, broker: Broker, store: ModelStoreServer, tmp_path: Path
) -> Iterator[Callable[..., World]]:
    """Makes worlds whose instances end with the test. Their reports are heard by somebody, as they are in life."""
    worlds: list[World] = []

    def make(edge_ids: tuple[int, ...] = (11, 12, 13, 14), **arguments: Any) -> World:
        folder = tmp_path / f"world-{len(worlds)}"
        folder.mkdir()
        worlds.append(World(package, folder, broker, store, edge_ids, arguments))
        return worlds[-1]

    with mqtt_client(broker.port, *(f"runs/+/+/{kind}" for kind in ("metrics", "round", "event", "model"))):
        yield make
        for world in worlds:
            world.close()
