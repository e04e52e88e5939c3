"""A run as tables: every point of every series, piece by piece, however many there are."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson

from runs.models import Run, Series
from runs.telemetry.columns import PointColumns
from runs.telemetry.reading import points_iterate

CSV_COLUMNS = ("edge_id", "reporter", "kind", "name", "step", "round", "time", "value")
AGGREGATOR = "aggregator"


class Chunk(NamedTuple):
    """Some points of one series, in the order in which they arrived."""

    series: Series
    reporter: str
    points: PointColumns


def chunks(run: Run) -> Iterator[Chunk]:
    """Yield every point of a run, one series after the other: the aggregator's first, then each device's by name."""
    names = reporter_names(run)
    for series in run.series.order_by("edge_id", "kind", "name"):
        for points in points_iterate(series.pk):
            yield Chunk(series, names.get(series.edge_id, f"device {series.edge_id}"), points)


def reporter_names(run: Run) -> dict[int, str]:
    """Return the names of those who report in a run, by edge id; two devices of one name are told apart."""
    names = {0: AGGREGATOR}
    for part in run.run_devices.select_related("device"):
        name = part.device.name if part.device else f"device {part.edge_id}"
        names[part.edge_id] = f"{name} ({part.edge_id})" if name in names.values() else name
    return names


def csv_pieces(run: Run) -> Iterator[bytes]:
    """Yield a table of all points with a header line, as RFC 4180 has it. A point without a round has no text there."""
    yield _csv([CSV_COLUMNS])
    for series, reporter, points in chunks(run):
        start = (series.edge_id, _plain(reporter), series.kind, _plain(series.name))
        columns = (points["step"].tolist(), points["round"].tolist(), points["time"].tolist(), points["value"].tolist())
        yield _csv(
            (*start, step, "" if math.isnan(round_) else int(round_), time, value)
            for step, round_, time, value in zip(*columns, strict=True)
        )


def json_pieces(run: Run) -> Iterator[bytes]:
    """Yield ``{"run", "configuration", "devices", "rounds", "models", "series"}`` as one JSON document.

    Each of ``series`` has ``points`` by column; what is no number is ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``.
    """
    yield orjson.dumps(facts(run))[:-1] + b',"series":['
    last: int | None = None
    for series, reporter, points in chunks(run):
        if series.pk != last:
            head = {"edge_id": series.edge_id, "reporter": reporter, "kind": series.kind, "name": series.name}
            yield (b"" if last is None else b"]},") + orjson.dumps(head)[:-1] + b',"points":['
        else:
            yield b","
        last = series.pk
        rows = {name: _numbers(points[name]) for name in ("step", "round", "time", "value")}
        yield b",".join(orjson.dumps(row) for row in zip(*rows.values(), strict=True))
    yield b"]}" if last is not None else b""
    yield b'],"columns":["step","round","time","value"]}\n'


def facts(run: Run) -> dict[str, Any]:
    """Return what there is to say of a run besides its points."""
    names = reporter_names(run)
    return {
        "run": {
            "id": run.pk,
            "name": run.name,
            "project": run.project.name,
            "state": run.state,
            "reason": run.reason,
            "created_at": run.created_at,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "rounds_done": run.round_index + 1,
            "total_rounds": run.total_rounds,
            "best_metric": run.best_metric,
            "server_package": run.server_package.sha256,
            "client_package": run.client_package.sha256,
        },
        "configuration": run.configuration_copy,
        "devices": [{"edge_id": edge_id, "name": name} for edge_id, name in names.items() if edge_id],
        "rounds": list(run.rounds.values("round_index", "total_rounds", "running_time", "reported_at")),
        "models": list(run.models.values("kind", "edge_id", "round_index", "sha256", "size", "metrics", "created_at")),
    }


def parameters(run: Run) -> dict[str, Any]:
    """Return the model's and the training's parameters by name, those of the training second."""
    copy = run.configuration_copy
    sections = (copy.get("model_config") or [], copy.get("hyperparameters_config") or [])
    return {row["name"]: row["value"] for rows in sections for row in rows}


def _csv(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _plain(text: str) -> str:
    """Keep spreadsheets from taking a name for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _numbers(values: np.ndarray[Any, Any]) -> list[Any]:
    special = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return ["NaN" if math.isnan(value) else special.get(value, value) for value in values.tolist()]
