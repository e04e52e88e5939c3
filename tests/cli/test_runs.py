"""From two packages to an exported run, by commands alone."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import F
from django.utils import timezone

from configurations.tests.packages import package_bytes
from devices.models import Device
from runs.models import LogLine, Point, Project, Run, Series
from runs.states import RunState
from runs.tests.conftest import Sent
from tests.cli.conftest import Roundtable


def _created(cli: Roundtable, home: Path, *more: str) -> dict[str, Any]:
    for kind in ("server", "client"):
        (home / f"{kind}.zip").write_bytes(package_bytes())
    made = cli(
        "configurations", "create", "FedAvg", "--server", "server.zip", "--client", "client.zip", "--set", "lr=0.5"
    )
    assert made.exit_code == 0, made.err
    result = cli(
        "runs", "create", "--project", "Digits", "--configuration", "FedAvg", "--device", "ward-north", "--json", *more
    )
    assert result.exit_code == 0, result.err
    run: dict[str, Any] = json.loads(result.out)
    return run


def test_a_run_is_made_started_and_stopped(
    logged_in: Roundtable, home: Path, device: Device, sent: Sent, project: Project
) -> None:
    run = _created(logged_in, home, "--name", "first", "--set", "comm_round=3")
    assert (run["name"], run["state"], run["overrides"]) == ("first", "CREATED", ["hyperparameters_config.comm_round"])
    values = {row["name"]: row["value"] for row in run["hyperparameters_config"]}
    assert (values["lr"], values["comm_round"]) == (0.5, 3)

    assert logged_in("runs", "start", "first").exit_code == 0
    assert sent[0][0] == "stage_run"
    refused = logged_in("runs", "start", "first")
    assert (refused.exit_code, refused.err) == (5, "Error: This run was started already.\n")
    shown = json.loads(logged_in("runs", "list", "--state", "queued", "--json").out)
    assert [row["id"] for row in shown] == [run["id"]]
    assert logged_in("runs", "stop", "first", "--reason", "enough").exit_code == 0
    assert Run.objects.get().reason == "enough"


def test_watching_ends_with_the_run_and_tells_how(logged_in: Roundtable, home: Path, device: Device) -> None:
    run = _created(logged_in, home)

    def finish() -> None:
        try:
            time.sleep(1)
            Run.objects.update(
                state=RunState.FINISHED,
                ended_at=timezone.now(),
                round_index=2,
                total_rounds=3,
                frame_number=F("frame_number") + 1,
            )
        finally:
            connection.close()

    finisher = threading.Thread(target=finish)
    finisher.start()
    result = logged_in("runs", "watch", str(run["id"]))
    finisher.join()
    assert result.exit_code == 0
    assert result.out.splitlines()[-2:] == ["rounds: 3 of 3", f"run {run['name']}: FINISHED"]
    Run.objects.update(state=RunState.FAILED, reason="broken")
    failed = logged_in("runs", "watch", str(run["id"]), "--json")
    assert (failed.exit_code, json.loads(failed.out)["run"]["reason"]) == (7, "broken")


def test_logs_are_followed_to_their_end_and_cannot_command_the_terminal(
    logged_in: Roundtable, home: Path, device: Device
) -> None:
    run = Run.objects.get(pk=_created(logged_in, home)["id"])
    for text in ("begins", "\x1b[2Jclears", "ends"):
        LogLine.objects.create(run=run, reporter="server", time=0.0, stream="stdout", line=text)
    Run.objects.update(state=RunState.FINISHED)
    result = logged_in("runs", "logs", str(run.pk), "--follow", "--lines", "1")
    assert (result.exit_code, result.out) == (0, "00:00:00.000 server ends\n")
    result = logged_in("runs", "logs", str(run.pk))
    assert "\x1b" not in result.out
    assert "\ufffd[2Jclears" in result.out


def test_a_run_is_exported(logged_in: Roundtable, home: Path, device: Device) -> None:
    run = Run.objects.get(pk=_created(logged_in, home)["id"])
    series = Series.objects.create(run=run, edge_id=0, name="accuracy", count=1)
    Point.objects.create(series=series, step=1, round=1, time=2.0, value=0.5)
    result = logged_in("runs", "export", str(run.pk), "--format", "csv", "--output", "points.csv")
    assert result.exit_code == 0, result.err
    assert (home / "points.csv").read_text().splitlines()[1] == "0,aggregator,metric,accuracy,1.0,1,2.0,0.5"
    assert logged_in("runs", "export", str(run.pk)).exit_code == 0
    assert json.loads((home / f"run-{run.pk}.json").read_text())["series"][0]["points"] == [[1.0, 1, 2.0, 0.5]]


def test_what_is_not_there_is_said_in_a_sentence(logged_in: Roundtable, project: Project) -> None:
    result = logged_in("runs", "show", "nothing")
    assert (result.exit_code, result.err) == (4, "Error: There is no run named nothing. List them, or give an id.\n")
    assert logged_in("runs", "show", "999").exit_code == 4
    assert logged_in("runs", "list", "--state", "odd").exit_code == 2


def test_devices_are_listed_renamed_and_bound(logged_in: Roundtable, device: Device) -> None:
    assert logged_in("devices", "rename", "ward-north", "ward-south").exit_code == 0
    rows = json.loads(logged_in("devices", "list", "--json").out)
    assert [(row["id"], row["name"], row["state"]) for row in rows] == [(device.pk, "ward-south", "IDLE")]
    made = json.loads(logged_in("devices", "bind", "--no-wait", "--json").out)
    assert made["command"].startswith("edge/run.sh RT-")
    assert "ward-south" in logged_in("devices", "list", "--project", "Digits").out
