"""The reporting SDK against a real broker and a model store over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roundtable
import safetensors.numpy
from fl_world import Broker, ModelStoreServer, instance_environment, mqtt_client, wait_until, write_home

SDK = Path(roundtable.__file__).parent


def of(heard: list[tuple[str, dict[str, Any]]], topic: str, edge_id: int = 3) -> list[dict[str, Any]]:
    return [payload for name, payload in heard if name == f"runs/7/{edge_id}/{topic}"]


def points(heard: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [point for payload in of(heard, "metrics") for point in payload["metrics"]]


def test_metrics_arrive_with_step_round_time_and_every_kind_of_number(instance: Path, broker: Broker) -> None:
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        before = time.time()
        roundtable.log({"loss": np.float32(0.5), "n": np.int64(3), "ok": True}, step=4, round=2)
        roundtable.log({"a": float("nan"), "b": float("inf"), "c": -np.inf, "d": np.array([7.0])[0]}, step=0.5)
        assert roundtable.flush()
        wait_until(lambda: len(points(heard)) == 7)
    values = {point["name"]: point["value"] for point in points(heard)}
    assert values == {"loss": 0.5, "n": 3.0, "ok": 1.0, "a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 7.0}
    first = points(heard)[0]
    assert before - 1 < first.pop("time") < time.time() + 1
    assert first == {"name": "loss", "step": 4.0, "value": 0.5, "round": 2}
    assert "round" not in points(heard)[3]
    assert points(heard)[3]["step"] == 0.5


def test_without_a_step_it_is_the_round_or_a_count(instance: Path, broker: Broker) -> None:
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        for arguments in ({}, {}, {"round": 9}, {}, {"step": 20}, {}):
            roundtable.log({"x": 1}, **arguments)
        assert roundtable.flush()
        wait_until(lambda: len(points(heard)) == 6)
    assert [point["step"] for point in points(heard)] == [0, 1, 9, 10, 20, 21]


def test_many_points_travel_in_few_messages_in_order(instance: Path, broker: Broker) -> None:
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        for step in range(2_000):
            roundtable.log({"x": step}, step=step)
        assert roundtable.flush()
        wait_until(lambda: len(points(heard)) == 2_000)
    assert [point["value"] for point in points(heard)] == list(range(2_000))
    messages = of(heard, "metrics")
    assert 4 <= len(messages) <= 20
    assert max(len(payload["metrics"]) for payload in messages) <= 500
    assert [payload["seq"] for payload in messages] == list(range(1, len(messages) + 1))
    assert len({payload["instance"] for payload in messages}) == 1


def test_a_report_arrives_without_a_flush(instance: Path, broker: Broker) -> None:
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        roundtable.init()
        roundtable.log({"x": 1})
        wait_until(lambda: points(heard), seconds=5)


def test_an_event_has_a_start_and_an_end_even_when_its_work_fails(instance: Path, broker: Broker) -> None:
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        with pytest.raises(ZeroDivisionError), roundtable.event("train", 3):
            raise ZeroDivisionError
        assert roundtable.flush()
        wait_until(lambda: len(of(heard, "event")) == 2)
    start, end = of(heard, "event")
    assert (start["event_name"], start["event_value"]) == (end["event_name"], end["event_value"]) == ("train", "3")
    assert start["started_time"] <= end["ended_time"]
    assert "ended_time" not in start
    assert "started_time" not in end


def test_rounds_are_the_aggregators(
    instance: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        roundtable.log_round(0, 5)
        roundtable.log({"x": 1})
        assert roundtable.flush()
        wait_until(lambda: points(heard))
        assert of(heard, "round") == []
        assert "log_round is for the aggregator" in caplog.text
        roundtable.close()
        monkeypatch.setenv("ROUNDTABLE_EDGE_ID", "0")
        for index in (-1, 0, 1):
            roundtable.log_round(index, 2)
        assert roundtable.flush()
        wait_until(lambda: len(of(heard, "round", 0)) == 3)
    rounds = of(heard, "round", 0)
    assert [payload["round_index"] for payload in rounds] == [-1, 0, 1]
    assert {payload["total_rounds"] for payload in rounds} == {2}
    assert rounds[0]["running_time"] == 0
    assert rounds[0]["running_time"] <= rounds[1]["running_time"] <= rounds[2]["running_time"]


def test_models_are_stored_and_reported(instance: Path, broker: Broker, store: ModelStoreServer) -> None:
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.int64(4) * np.ones(1, np.int64)}
    file = instance / "m.safetensors"
    safetensors.numpy.save_file(weights, file)
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        roundtable.log_model(weights, round=2, metrics={"val_loss": 0.25, "bad": float("nan")})
        weights["w"][:] = 0  # training goes on
        roundtable.log_model(file, round=3)
        roundtable.log_model(str(instance / "missing"))
        assert roundtable.flush()
        wait_until(lambda: len(of(heard, "model")) == 2)
    uploads = sorted(store.uploads, key=lambda upload: upload.round)
    assert [(upload.edge_id, upload.kind, upload.round) for upload in uploads] == [(3, "client", 2), (3, "client", 3)]
    for upload in uploads:
        loaded = safetensors.numpy.load(upload.content)
        assert loaded["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert loaded["steps"].tolist() == [4]
    report = next(payload for payload in of(heard, "model") if payload["round_index"] == 2)
    assert (report["key"], report["kind"], report["size"]) == (uploads[0].key, "client", len(uploads[0].content))
    assert report["metrics"] == {"val_loss": 0.25, "bad": "NaN"}
    assert store.refused == {}


def test_what_a_killed_broker_forgot_is_sent_again_until_the_platform_has_stored_it(
    instance: Path, broker: Broker
) -> None:
    with mqtt_client(broker.port, "runs/#") as (platform, heard):
        roundtable.log({"x": 0})
        assert roundtable.flush()
        (first,) = of(heard, "metrics")
        stored = {"instance": first["instance"], "seqs": [first["seq"]]}
        platform.publish("runs/7/3/stored", json.dumps(stored), qos=1).wait_for_publish(10)
        roundtable.log({"x": 1})
        wait_until(lambda: len(points(heard)) == 2)
    broker.stop()
    for step in range(2, 50):
        roundtable.log({"x": step})
    assert not roundtable.flush(0.3)
    broker.start()
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        wait_until(lambda: {point["value"] for point in points(heard)} == set(range(1, 50)))
        assert roundtable.flush(10)


def test_what_nobody_was_there_to_hear_is_sent_again(
    instance: Path, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    roundtable.log({"x": 1}, step=1)
    assert not roundtable.flush()
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        wait_until(lambda: len(points(heard)) == 1)
        assert roundtable.flush()
    assert [point["value"] for point in points(heard)] == [1.0]
    assert "undelivered" not in caplog.text


def test_it_says_what_nobody_heard(instance: Path, broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    roundtable.log({"x": 1}, step=1)
    roundtable.close()
    assert "closed with 1 reports undelivered, of which nobody heard 1" in caplog.text


def test_it_says_what_the_platform_refused(instance: Path, broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    with mqtt_client(broker.port, "runs/7/3/metrics") as (platform, heard):
        roundtable.log({"x": 1})
        wait_until(lambda: points(heard))
        (sent,) = of(heard, "metrics")
        refused = [{"seq": sent["seq"], "reason": "metrics[0].step: Input should be a finite number"}]
        answer = {"instance": sent["instance"], "seqs": [sent["seq"]], "refused": refused}
        for broken in ("{", "[]", "{}", json.dumps(answer | {"seqs": 1}), json.dumps(answer | {"seqs": [[]]})):
            platform.publish("runs/7/3/stored", broken)
        platform.publish("runs/7/3/stored", json.dumps(answer))
        wait_until(lambda: "refused a report: metrics[0].step: Input should be a finite number" in caplog.text)
        assert roundtable.flush()


def test_the_queue_is_bounded_and_says_what_it_dropped(
    instance: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(roundtable, "QUEUE_LIMIT", 100)
    broker.stop()
    start = time.monotonic()
    for step in range(1_000):
        roundtable.log({"x": step})
    assert time.monotonic() - start < 1
    broker.start()
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        assert roundtable.flush(10)
        wait_until(lambda: len(points(heard)) == 100)
    assert [point["value"] for point in points(heard)] == list(range(900, 1_000))
    assert "dropped the 900 oldest reports" in caplog.text


def test_nothing_wrong_in_a_call_reaches_the_training(
    instance: Path, broker: Broker, store: ModelStoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    bad: Any = object()
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        for _ in range(3):
            roundtable.log(bad)
            roundtable.log({"x": "high", "y": bad, "z": 10**400})
            roundtable.log({"x": 1}, step=bad)
            roundtable.log({"x": 1}, step=float("nan"))
            roundtable.log({"naïve {name}\n" * 40: 1})
            roundtable.log_round(bad, bad)
            roundtable.log_model(bad)
            roundtable.log_model({"w": np.array(["text"])})
            with roundtable.event(bad, bad):
                pass
        roundtable.log({"done": 1})
        assert roundtable.flush()
        wait_until(lambda: any(point["name"] == "done" for point in points(heard)))
    names = {point["name"] for point in points(heard)}
    assert names == {("na_ve _name__" * 40)[:200], "done"}
    assert store.uploads == []
    warnings = [record.getMessage() for record in caplog.records if record.name == "roundtable"]
    assert len(warnings) == len(set(warnings))
    assert "'x' is not reported: could not convert string to float: 'high'" in warnings


def test_outside_of_a_run_it_is_silent_after_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        roundtable.log({"x": 1})
        with roundtable.event("train"):
            roundtable.log_round(1, 2)
        roundtable.log_model({})
    assert roundtable.flush(0.1)
    roundtable.close()
    warnings = [record.getMessage() for record in caplog.records if record.name == "roundtable"]
    assert len(warnings) == 1
    assert warnings[0].startswith("nothing is reported to Roundtable: ROUNDTABLE_URL, ")


def test_a_missing_broker_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in instance_environment(tmp_path, "http://127.0.0.1:1", 3).items():
        monkeypatch.setenv(name, value)
    roundtable.log({"x": 1})
    assert f"{tmp_path}/conf/mqtt_config.yaml cannot be read: No such file or directory" in caplog.text
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mqtt_config.yaml").write_text('BROKER_HOST: "h"\n')
    with pytest.raises(roundtable.NotInARun, match="has no BROKER_PORT"):
        roundtable.environment()


def test_secrets_show_in_no_representation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_home(tmp_path, 1)
    file = tmp_path / "conf" / "mqtt_config.yaml"
    file.write_text(file.read_text().replace('MQTT_PWD: ""', 'MQTT_PWD: "hush: \\"#\\""\nMQTT_TLS: true'))
    for name, value in instance_environment(tmp_path, "http://127.0.0.1:1", 3).items():
        monkeypatch.setenv(name, value)
    where = roundtable.environment()
    assert where.broker_password == 'hush: "#"'
    assert where.broker_tls
    assert "hush" not in repr(where)
    assert "rtr_7" not in repr(where)


def test_the_platforms_sentence_is_passed_on_and_absence_is_waited_for(
    instance: Path, store: ModelStoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = roundtable.environment()
    with pytest.raises(roundtable.PlatformError, match=r"/models/none answered 404: no such model") as caught:
        roundtable.request(where, "GET", "/api/runs/7/models/none")
    assert caught.value.status == 404
    store.away = True
    with pytest.raises(roundtable.PlatformError, match="the platform is away"):
        roundtable.request(where, "GET", "/api/runs/7/data", time_limit=0.7)
    assert store.refused["the platform is away"] == 2
    monkeypatch.setattr("time.sleep", lambda seconds: setattr(store, "away", False))
    assert roundtable.request(where, "GET", "/api/runs/7/data") == b""


def run_script(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(SDK), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_what_is_queued_at_exit_is_delivered(instance: Path, broker: Broker, store: ModelStoreServer) -> None:
    script = """
        import roundtable, sys
        for step in range(1234):
            roundtable.log({"x": step}, step=step)
        sys.exit(4)
    """
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        assert run_script(script).returncode == 4
        wait_until(lambda: len(points(heard)) == 1_234)


def test_a_forked_worker_is_an_instance_of_its_own(instance: Path, broker: Broker) -> None:
    script = """
        import os, roundtable
        roundtable.log({"parent": 1})
        roundtable.flush()
        child = os.fork()
        roundtable.log({"child" if child == 0 else "parent": 2})
        if child == 0:
            os._exit(0 if roundtable.flush() else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    with mqtt_client(broker.port, "runs/#") as (_, heard):
        done = run_script(script)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: len(points(heard)) == 3)
    instances = {payload["instance"] for payload in of(heard, "metrics")}
    assert len(instances) == 2


def test_a_refusal_of_the_broker_is_said_once(instance: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "strict").mkdir()
    (tmp_path / "strict" / "acl").write_text("topic read #\n")
    strict = Broker(tmp_path / "strict", f"acl_file {tmp_path / 'strict' / 'acl'}")
    try:
        write_home(tmp_path, strict.port)
        for step in range(3):
            roundtable.log({"x": step})
            roundtable.flush(3)
    finally:
        roundtable.close(timeout=0)
        strict.stop()
    assert [record.getMessage() for record in caplog.records if "refused" in record.getMessage()] == [
        "the broker refused a report: Not authorized"
    ]


def test_without_paho_it_is_a_no_op(instance: Path, tmp_path: Path) -> None:
    (tmp_path / "paho.py").write_text("raise ImportError('no paho here')")
    script = "import roundtable\nroundtable.log({'x': 1})\nroundtable.log({'x': 2})\nprint('trained')"
    done = run_script(script, PYTHONPATH=f"{tmp_path}{os.pathsep}{SDK}")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.strip() == "nothing is reported to Roundtable: no paho here"


def test_an_absent_broker_does_not_hold_up_the_exit_for_long(instance: Path, broker: Broker) -> None:
    broker.stop()
    start = time.monotonic()
    done = run_script("import roundtable\nroundtable.log({'x': 1})\nroundtable.close(timeout=1)")
    assert done.returncode == 0
    assert time.monotonic() - start < 5
    assert "closed with 1 reports undelivered" in done.stderr
    assert "secret" not in json.dumps([done.stdout, done.stderr])
