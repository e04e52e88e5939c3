"""The way of a run to a device: when each step was heard of."""

from __future__ import annotations

import time

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.live.payloads import device_item
from runs.models import Run, RunDevice
from runs.telemetry.payloads import StatusPayload
from runs.telemetry.series import SeriesBook
from runs.telemetry.storage import Stored, reports_store
from runs.telemetry.topics import Kind
from runs.tests.rows import INSTANCE, edges, metrics, report, run_make

pytestmark = pytest.mark.django_db


def part_of(run: Run) -> RunDevice:
    return run.run_devices.select_related("device").get()


@pytest.fixture
def run() -> Run:
    run = run_make(devices=1)
    run.run_devices.update(status="DISPATCHED", token_hash="x", command_sent_at=timezone.now())
    return run


def say(run: Run, status: str, phase: str = "", progress: float | None = None) -> None:
    payload = StatusPayload.model_validate({"run_id": run.pk, "status": status, "phase": phase, "progress": progress})
    lifecycle.device_status_apply(run.pk, edges(run)[0], payload)


def log(run: Run, seq: int, stream: str) -> Stored:
    lines = [{"seq": seq, "time": time.time(), "stream": stream, "line": "hello"}]
    message = {"instance": INSTANCE, "seq": seq, "lines": lines}
    return reports_store([report(run, edges(run)[0], Kind.LOG, message)], SeriesBook())


def test_each_phase_keeps_the_moment_at_which_it_was_first_heard_of(run: Run) -> None:
    began = time.time()
    say(run, "INITIALIZING", "fetch", 0.1)
    first = part_of(run).phase_times
    say(run, "INITIALIZING", "fetch", 0.42)
    second = part_of(run).phase_times
    say(run, "INITIALIZING", "fetch", 0.42)
    assert part_of(run).phase_times == second
    assert second["fetch"] == first["fetch"]
    assert second["progress"] > first["progress"]
    say(run, "INITIALIZING", "open")
    say(run, "TRAINING", "run")
    times = part_of(run).phase_times
    assert began <= times["fetch"] <= times["open"] <= times["run"] <= time.time()
    assert set(device_item(part_of(run))["delivery"]) == {"sent", "received", "fetch", "open", "run", "progress"}


def test_the_instance_is_alive_with_its_first_word_and_not_with_its_agents(run: Run) -> None:
    say(run, "TRAINING", "run")
    log(run, 1, "agent")
    assert part_of(run).alive_at is None
    log(run, 2, "stdout")
    alive = part_of(run).alive_at
    assert alive is not None
    reports_store([report(run, edges(run)[0], Kind.METRICS, metrics(1, ("loss", 0, 1.0)))], SeriesBook())
    assert part_of(run).alive_at == alive
    assert device_item(part_of(run))["delivery"]["alive"] == alive.timestamp()


def test_what_comes_before_the_agents_answer_is_left_from_an_earlier_attempt(run: Run) -> None:
    log(run, 1, "stdout")
    assert part_of(run).alive_at is None
    say(run, "TRAINING", "run")
    log(run, 2, "stdout")
    assert part_of(run).alive_at is not None


def test_the_part_remembers_how_far_the_devices_clock_was_off(run: Run) -> None:
    device = part_of(run).device
    assert device is not None
    device.clock_samples = [2.9, 3.25, 3.0]
    device.save()
    say(run, "INITIALIZING", "fetch")
    device.clock_samples = []
    device.save()
    assert part_of(run).clock_offset == 3.25
    assert device_item(part_of(run))["clock_offset"] == 3.25
