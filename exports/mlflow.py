"""A run copied to an MLflow server, by its REST interface (https://mlflow.org/docs/latest/api_reference/rest-api.html).

Parameters, metrics and the frozen configuration go there. MLflow keeps a metric's value once for the same step and
time, so that sending a batch again changes nothing, and a copy that broke off can be gone on with.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson
from django.utils import timezone

from exports.models import MlflowExport
from exports.tables import AGGREGATOR, chunks, facts, parameters
from mlops_site.outbound import Answer, OutboundFailed, outbound_request
from runs.models import Run
from runs.states import RunState

API = "/api/2.0/mlflow/"
METRICS_AT_ONCE = 1_000
PARAMETERS_AT_ONCE = 100
TEXT_MOST = 500  # characters of a parameter's value that every version of MLflow takes
SECONDS = 60.0
_STATES = {RunState.FINISHED: "FINISHED", RunState.FAILED: "FAILED", RunState.KILLED: "KILLED"}
_OUTSIDE = re.compile(r"[^A-Za-z0-9_\-./ ]+")


class ExportFailed(Exception):
    """The server did not take the run; ``str(error)`` is a sentence fit for a page."""


def export_send(export: MlflowExport) -> None:
    """Copy the run to the server, noting how far it is.

    Raises:
        ExportFailed: the server cannot be reached, or refused something.
    """
    run = export.run
    if not export.mlflow_run_id:
        _run_make(export, run)
    call = _Caller(export)
    for batch in _batches(list(parameters(run).items()), PARAMETERS_AT_ONCE):
        rows = [{"key": _key(name), "value": str(value)[:TEXT_MOST]} for name, value in batch]
        call("POST", "runs/log-batch", {"run_id": export.mlflow_run_id, "params": rows})
    sent = 0
    for metrics in _batches(_metrics(run), METRICS_AT_ONCE):
        call("POST", "runs/log-batch", {"run_id": export.mlflow_run_id, "metrics": metrics})
        sent += len(metrics)
        _note(export, points_sent=sent)
    body: dict[str, Any] = {"run_id": export.mlflow_run_id, "status": _STATES.get(RunState(run.state), "RUNNING")}
    if run.ended_at:
        body["end_time"] = _milliseconds(run.ended_at)
    call("POST", "runs/update", body)
    _note(export, points_sent=sent)


def _run_make(export: MlflowExport, run: Run) -> None:
    call = _Caller(export)
    found = call("GET", f"experiments/get-by-name?experiment_name={quote(export.experiment)}", missing=True)
    experiment_id = (
        found["experiment"]["experiment_id"]
        if found
        else call("POST", "experiments/create", {"name": export.experiment})["experiment_id"]
    )
    tags = {
        "roundtable.run": run.pk,
        "roundtable.project": run.project.name,
        "roundtable.server_package": run.server_package.sha256,
        "roundtable.client_package": run.client_package.sha256,
    }
    made = call(
        "POST",
        "runs/create",
        {
            "experiment_id": experiment_id,
            "run_name": run.name,
            "start_time": _milliseconds(run.started_at or run.created_at),
            "tags": [{"key": key, "value": str(value)} for key, value in tags.items()],
        },
    )
    _note(export, mlflow_run_id=made["run"]["info"]["run_id"], experiment_id=str(experiment_id))
    _facts_send(call, export, run, made["run"]["info"]["artifact_uri"])


def _facts_send(call: _Caller, export: MlflowExport, run: Run, artifact_uri: str) -> None:
    """Store what else there is to say of the run as an artifact, where the server itself takes artifacts."""
    scheme, _, place = artifact_uri.partition(":")
    if scheme == "mlflow-artifacts":
        path = quote(place.lstrip("/"))
        call.raw("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}/roundtable.json", orjson.dumps(facts(run)))


class _Caller:
    """Calls the REST interface of an export's server."""

    def __init__(self, export: MlflowExport) -> None:
        self._url = export.url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if export.token:
            kind = "Basic" if ":" in export.token else "Bearer"
            token = base64.b64encode(export.token.encode()).decode() if kind == "Basic" else export.token
            self._headers["Authorization"] = f"{kind} {token}"

    def __call__(self, method: str, path: str, body: Any = None, *, missing: bool = False) -> dict[str, Any]:
        """Return the answer; with ``missing`` nothing where there is no such thing."""
        answer = self._ask(method, f"{API}{path}", b"" if body is None else orjson.dumps(body))
        if answer.status == 404 and missing:
            return {}
        return self._checked(answer)

    def raw(self, method: str, path: str, body: bytes) -> None:
        self._checked(self._ask(method, path, body))

    def _ask(self, method: str, path: str, body: bytes) -> Answer:
        try:
            return outbound_request(method, self._url + path, body, self._headers, seconds=SECONDS)
        except OutboundFailed as error:
            raise ExportFailed(str(error)) from None

    def _checked(self, answer: Answer) -> dict[str, Any]:
        content: Any = None
        try:
            content = orjson.loads(answer.body) if answer.body else {}
        except orjson.JSONDecodeError:
            if answer.good:
                raise ExportFailed(f"{answer.host} does not answer as an MLflow server does.") from None
        if answer.good and isinstance(content, dict):
            return content
        said = content.get("message") if isinstance(content, dict) else None
        hint = " Give a token, or user:password." if answer.status in (401, 403) else ""
        raise ExportFailed(f"{answer.host} answered {answer.status}: {str(said or answer.words)[:300]}.{hint}")


def _metrics(run: Run) -> Iterator[dict[str, Any]]:
    for series, reporter, points in chunks(run):
        name = series.name if series.kind == "metric" else f"{series.kind}/{series.name}"
        key = _key(name if reporter == AGGREGATOR else f"{reporter}/{name}")
        for step, time, value in zip(*(points[each].tolist() for each in ("step", "time", "value")), strict=True):
            shown = value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
            yield {"key": key, "value": shown, "timestamp": int(time * 1000), "step": int(step // 1)}


def _key(text: str) -> str:
    """A name in the characters that MLflow allows."""
    return (_OUTSIDE.sub("_", text).strip("/. ") or "_")[:250]


def _batches(rows: Any, size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _note(export: MlflowExport, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(export, name, value)
    MlflowExport.objects.filter(pk=export.pk).update(heard_at=timezone.now(), **changes)
