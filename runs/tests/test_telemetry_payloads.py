from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runs.telemetry.levels import level_of
from runs.telemetry.payloads import (
    EventPayload,
    LogPayload,
    MetricsPayload,
    ModelPayload,
    PayloadInvalid,
    StatusPayload,
    SystemPayload,
    payload_parse,
    value_of,
)
from runs.telemetry.topics import Address, Kind, subscriptions, topic_parse

METRIC = {"name": "loss", "step": 3, "time": 1_700_000_000.5, "value": 0.25}
HEAD = {"instance": "ab12", "seq": 1}


def parse(kind: Kind, message: Any) -> Any:
    return payload_parse(kind, orjson.dumps(message))


def metric_with(**changes: Any) -> dict[str, Any]:
    return {**HEAD, "metrics": [{**METRIC, **changes}]}


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        ("runs/7/3/metrics", Address(Kind.METRICS, 7, 3)),
        ("runs/7/0/status", Address(Kind.STATUS, 7, 0)),
        ("edges/12/presence", Address(Kind.PRESENCE, None, 12)),
        ("edges/12/status", Address(Kind.STATUS, None, 12)),
        ("edges/12/metrics", None),
        ("runs/7/3/presence", None),
        ("runs/7/3/fl/up", None),
        ("runs/07/3/metrics", None),
        ("runs/-7/3/metrics", None),
        ("runs/\u0667/3/metrics", None),
        ("runs/9999999999999999999/3/metrics", None),
        ("runs/7/3/metrics\n", None),
        ("", None),
    ],
)
def test_a_topic_names_kind_run_and_edge(topic: str, address: Address | None) -> None:
    assert topic_parse(topic) == address


def test_slot_0_alone_hears_of_devices() -> None:
    assert subscriptions(0)[-2:] == ["edges/+/presence", "edges/+/status"]
    assert all(topic.startswith("$share/ingest/runs/+/+/") for topic in subscriptions(1))


def test_metrics_keep_numbers_and_what_is_none() -> None:
    payload = payload_parse(
        Kind.METRICS,
        b'{"instance": "ab12", "seq": 1, "extra": [], "metrics": ['
        b'{"name": "a", "step": 1, "time": 5, "value": 2, "round": 4},'
        b'{"name": "b", "step": 1.5, "time": 5, "value": "NaN"},'
        b'{"name": "c", "step": 1, "time": 5, "value": "-Infinity", "round": null}]}',
    )
    assert isinstance(payload, MetricsPayload)
    assert payload.metrics[0] == {"name": "a", "step": 1.0, "time": 5.0, "value": 2.0, "round": 4}
    assert math.isnan(value_of(payload.metrics[1]["value"]))
    assert value_of(payload.metrics[2]["value"]) == -math.inf


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (metric_with(value="0.5"), "metrics[0].value"),
        (metric_with(value=True), "metrics[0].value"),
        (metric_with(value=None), "metrics[0].value"),
        (metric_with(step="1"), "metrics[0].step"),
        (metric_with(time=-1), "metrics[0].time"),
        (metric_with(time=1e300), "metrics[0].time"),
        (metric_with(name=""), "metrics[0].name"),
        (metric_with(name="x" * 201), "metrics[0].name"),
        (metric_with(name="<script>"), "metrics[0].name"),
        (metric_with(name="loss\n"), "metrics[0].name"),
        (metric_with(round=1.5), "metrics[0].round"),
        (metric_with(round=2**31), "metrics[0].round"),
        ({**HEAD, "metrics": [METRIC] * 1001}, "metrics"),
        ({**HEAD, "metrics": {}}, "metrics"),
        ({"instance": "ab12", "metrics": []}, "seq"),
        ({"instance": "ab12", "seq": 0, "metrics": []}, "seq"),
        ({"instance": "ab12", "seq": 2**63, "metrics": []}, "seq"),
        ({"instance": "a b", "seq": 1, "metrics": []}, "instance"),
        ({"instance": "a" * 65, "seq": 1, "metrics": []}, "instance"),
        ([], "message"),
        ("text", "message"),
    ],
)
def test_a_bad_metrics_message_is_refused_with_its_place(message: Any, place: str) -> None:
    with pytest.raises(PayloadInvalid, match="^" + place.replace("[", r"\[").replace("]", r"\]")):
        parse(Kind.METRICS, message)


def test_broken_json_is_refused_with_line_and_column() -> None:
    with pytest.raises(PayloadInvalid, match="line 2 column 3"):
        payload_parse(Kind.METRICS, b'{"instance": "a",\n  x}')


def test_a_message_over_one_mebibyte_is_refused_unread() -> None:
    with pytest.raises(PayloadInvalid, match="at most 1048576"):
        payload_parse(Kind.LOG, b" " * (1024 * 1024 + 1))


def test_a_reason_never_repeats_what_was_sent() -> None:
    with pytest.raises(PayloadInvalid) as caught:
        parse(Kind.METRICS, metric_with(value="a-secret-token", name="another secret!"))
    assert "secret" not in str(caught.value)


def test_a_system_message_keeps_the_figures_of_the_protocol_alone() -> None:
    payload = payload_parse(
        Kind.SYSTEM,
        b'{"instance": "ab", "seq": 1, "time": 5, "cpu_utilization": 12.5, "gpu.0.power_usage": 80,'
        b'"gpu.99.utilization": 1, "gpu.x.utilization": 1, "gpu.0.name": "A", "gpu.1.utilization": 1e999,'
        b'"gpu.2.temperature": true, "other": {}}',
    )
    assert isinstance(payload, SystemPayload)
    assert payload.figures() == {"cpu_utilization": 12.5, "gpu.0.power_usage": 80.0}


def test_an_event_needs_a_start_or_an_end() -> None:
    with pytest.raises(PayloadInvalid, match="started_time or ended_time is missing"):
        parse(Kind.EVENT, {**HEAD, "event_name": "train", "event_value": 3})
    payload = parse(Kind.EVENT, {**HEAD, "event_name": "train", "event_value": 3, "ended_time": 4})
    assert isinstance(payload, EventPayload)
    assert (payload.event_value, payload.started_time, payload.ended_time) == ("3", None, 4.0)


def test_lines_are_cut_and_cleaned() -> None:
    lines = [
        {"seq": 1, "time": 5, "stream": "stdout", "line": "plain\r\n"},
        {"seq": 2, "time": 5, "stream": "stderr", "line": "nul\x00here"},
        {"time": 5, "stream": "agent", "line": "é" * 5000},
    ]
    payload = parse(Kind.LOG, {**HEAD, "lines": lines})
    assert isinstance(payload, LogPayload)
    assert [line["line"] for line in payload.lines[:2]] == ["plain", "nul\ufffdhere"]
    assert payload.lines[2]["line"] == "é" * 4094 + " ..."
    assert len(payload.lines[2]["line"].encode()) == 8192
    with pytest.raises(PayloadInvalid, match=r"lines\[0\].stream"):
        parse(Kind.LOG, {**HEAD, "lines": [{**lines[0], "stream": "other"}]})


def test_a_model_message_names_its_digest() -> None:
    message = {**HEAD, "round_index": 2, "kind": "client", "key": "k", "sha256": "0" * 64, "size": 10}
    payload = parse(Kind.MODEL, {**message, "metrics": {"loss": "NaN", "accuracy": 0.5}})
    assert isinstance(payload, ModelPayload)
    assert payload.metrics == {"loss": "NaN", "accuracy": 0.5}
    with pytest.raises(PayloadInvalid, match="sha256"):
        parse(Kind.MODEL, {**message, "sha256": "0" * 63})


def test_a_status_reason_has_no_nul_and_an_end() -> None:
    payload = parse(Kind.STATUS, {"run_id": 7, "status": "FAILED", "reason": "a\x00b" + "c" * 3000, "exit_code": -9})
    assert isinstance(payload, StatusPayload)
    assert (payload.reason[:3], len(payload.reason), payload.exit_code) == ("a\ufffdb", 2000, -9)
    with pytest.raises(PayloadInvalid, match="status"):
        parse(Kind.STATUS, {"run_id": 7, "status": "GONE"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("NaN"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    """instance seq metrics name step time value round lines line stream event_name event_value started_time ended_time
    round_index total_rounds running_time kind sha256 size key run_id status reason progress exit_code state boot runs
    check gpu gpu.0.utilization cpu_utilization""".split()  # noqa: SIM905
)


def reason_or_payload(kind: Kind, data: bytes) -> Any:
    try:
        return payload_parse(kind, data)
    except PayloadInvalid as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(Kind), data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(kind: Kind, data: bytes) -> None:
    assert reason_or_payload(kind, data) != ""


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(Kind),
    message=st.dictionaries(FIELDS, JSON, max_size=8),
    change=st.binary(max_size=3),
    at=st.integers(0, 300),
)
def test_any_near_miss_is_read_or_refused(kind: Kind, message: dict[str, Any], change: bytes, at: int) -> None:
    data = json.dumps({**HEAD, **message}).encode()  # writes NaN, Infinity and lone surrogates, as some senders do
    assert reason_or_payload(kind, data[:at] + change + data[at + len(change) :]) != ""


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-01-02 03:04:05 ERROR runs: no", "ERROR"),
        ("[INFO] started", "INFO"),
        ("[error] nginx", "ERROR"),
        ("WARN: careful", "WARNING"),
        ("warning: careful", "WARNING"),
        ("CRITICAL:root:gone", "ERROR"),
        ("DEBUG x", "DEBUG"),
        ("Traceback (most recent call last):", "ERROR"),
        ("there was an error in the input", ""),
        ("INFORMATION", ""),
        ("x" * 200 + " ERROR", ""),
        ("", ""),
    ],
)
def test_a_level_is_read_from_the_line(line: str, level: str) -> None:
    assert level_of(line) == level
