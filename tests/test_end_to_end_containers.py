"""A run in containers, by hand: images from the registry alone on two devices, and a third device without an engine.

The devices' engine has images of its own and shares nothing with the platform's but the registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from playwright.sync_api import Browser, expect

from deploy.local.engine import Engine, Registry
from tests.containers import BASE_IMAGE, engine_started
from tests.platform import Platform, platform_start, wait_for

LONG = 180_000  # ms; what a loaded machine may take to build, push and pull


@pytest.fixture(scope="module")
def devices_engine(registry: Registry) -> Iterator[Engine]:
    """The engine of the devices."""
    with engine_started("edge") as started:
        yield started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, engine: Engine, registry: Registry) -> Iterator[Platform]:
    settings = {
        "ROUNDTABLE_BACKEND": "docker",
        "ROUNDTABLE_DOCKER_HOST": engine.url,
        "ROUNDTABLE_BASE_IMAGE": BASE_IMAGE,
        "ROUNDTABLE_BUILD_NETWORK": "host",
        "ROUNDTABLE_INSTANCE_NETWORK": "host",
        "ROUNDTABLE_REGISTRY": registry.address,
        "ROUNDTABLE_REGISTRY_USER": registry.username,
        "ROUNDTABLE_REGISTRY_PASSWORD": registry.password,
    }
    with platform_start(tmp_path_factory.mktemp("platform"), settings) as (started, _):
        yield started


def inspected(engine: Engine) -> list[dict[str, Any]]:
    """The instances on an engine, as ``docker inspect`` shows them."""
    client = docker.APIClient(base_url=engine.url, version="auto")
    try:
        found = client.containers(all=True, filters={"label": ["roundtable.run"]})
        return [client.inspect_container(each["Id"]) for each in found]
    finally:
        client.close()


def images(engine: Engine) -> list[str]:
    """The names by digest of the images on an engine."""
    client = docker.APIClient(base_url=engine.url, version="auto")
    try:
        return [name for image in client.images() for name in image.get("RepoDigests") or ()]
    finally:
        client.close()


def test_images_come_from_the_registry_and_one_device_needs_none(
    platform: Platform, chromium: Browser, engine: Engine, devices_engine: Engine, registry: Registry
) -> None:
    names = ["north", "south", "west"]
    assert images(devices_engine) == []
    with platform.browser_page(chromium) as page:
        for name in names[:2]:
            platform.device_bind(page, name, engine=devices_engine.url)
        platform.device_bind(page, "west", options=("--runtime", "process"))
        platform.configuration_create(page, "Digits in containers")
        project = platform.project_create(page, "Containers")
        platform.run_start(page, project, "Digits in containers", names, comm_round="40", local_epoch="2")
        expect(page.get_by_text("Running").first).to_be_visible(timeout=LONG)
        clients = wait_for(
            "two clients in containers", lambda: found if len(found := inspected(devices_engine)) == 2 else None
        )
        aggregators = inspected(engine)
        expect(page.get_by_text("Finished").first).to_be_visible(timeout=LONG)
        expect(page.get_by_role("tabpanel", name="Overview")).to_contain_text("40of 40")
        page.get_by_role("tab", name="Training status").click()
        for name in names:
            expect(page.get_by_role("row").filter(has_text=name)).to_contain_text(re.compile("Finished"))
    assert [one["Config"]["Labels"]["roundtable.edge"] for one in aggregators] == ["0"]
    for one in (*clients, *aggregators):
        host = one["HostConfig"]
        assert re.fullmatch(
            rf"{registry.address}/roundtable-(client|server)@sha256:[0-9a-f]{{64}}", one["Config"]["Image"]
        )
        assert one["Config"]["User"] == "10001:10001"
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
        assert host["Memory"] == host["MemorySwap"] > 0
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0
        assert list(host["Tmpfs"]) == ["/tmp"]  # noqa: S108 - in the container
        mounts = {(mount["Destination"], mount["RW"]) for mount in one["Mounts"]}
        assert mounts == {("/fedml/conf", False), ("/fedml/data", True)}
    assert {one["Config"]["Image"] for one in clients} <= set(images(devices_engine))
    wait_for("no instance left", lambda: not inspected(devices_engine) and not inspected(engine), seconds=120)
