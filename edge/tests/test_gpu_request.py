"""Which GPUs a client's container is given."""

from typing import Any

import pytest
from roundtable_agent.runtime_docker import gpu_requests

NVIDIA: dict[str, Any] = {"Runtimes": {"runc": {}, "nvidia": {}}}


@pytest.mark.parametrize("facts", [{}, {"Runtimes": None}, {"Runtimes": {"runc": {}}}])
def test_an_engine_without_gpus_is_asked_for_none(facts: dict[str, Any]) -> None:
    assert gpu_requests(facts, "") == []


@pytest.mark.parametrize(
    ("visible", "count", "ids"), [("", -1, None), ("1", None, ["1"]), ("0,GPU-7", None, ["0", "GPU-7"])]
)
def test_a_client_gets_every_gpu_or_those_that_are_named(
    visible: str, count: int | None, ids: list[str] | None
) -> None:
    [request] = gpu_requests(NVIDIA, visible)
    assert request["Capabilities"] == [["gpu"]]
    assert (request["Count"] or None, request["DeviceIDs"] or None) == (count, ids)
