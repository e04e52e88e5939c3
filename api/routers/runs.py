"""Runs: list, create, start, stop, and follow."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from api.auth import READ, user_of
from api.auth import RUN as RUN_SCOPE
from api.idempotency import IdempotencyKey, done_once
from api.problems import ApiProblem
from api.routers.configurations import RowOut
from api.schemas import ID_MAX, Id, OptionalId, Page, PageQuery, rows_page, sort_query
from configurations.access import configuration_for_user
from configurations.expressions import ExpressionError
from configurations.models import Configuration
from runs import lifecycle
from runs.access import project_for_run, run_for_change, run_for_user
from runs.lifecycle.rendering import RunDraft, run_draft
from runs.lists import RUNS, runs_listed
from runs.live.payloads import device_item, run_item, stage_item
from runs.models import Project, Run, RunDevice, StoredModel
from runs.states import InstanceStatus, RunState, StageState

router = Router()

WAIT_MAX_SECONDS = 30.0
LOOK_SECONDS = 0.5
COMMANDS_MAX = 100

RunId = Id
Wait = Annotated[
    float, Query(ge=0, le=WAIT_MAX_SECONDS, description="for how many seconds to wait for news before answering")
]
Value = str | int | float | bool | None | list[str | int | float | bool | None]


class BestMetric(Schema):
    """The best aggregated result."""

    name: str
    value: float | None
    round: int | None = None


class AggregatorOut(Schema):
    """What the aggregator does."""

    status: InstanceStatus
    reason: str
    since: datetime


class RunOut(Schema):
    """A run, as lists show it."""

    id: int
    name: str
    project_id: int
    configuration_id: int | None
    configuration_name: str
    state: RunState
    state_label: str
    reason: str
    since: datetime = Field(description="since when it is in this state")
    ended: bool
    repeats_run_id: int | None = Field(description="the run that it repeats")
    created_by: str | None
    started_by: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    backend: str
    device_count: int
    rounds_done: int
    total_rounds: int
    running_time: float = Field(description="seconds since the first round began")
    best_metric: BestMetric | None
    aggregator: AggregatorOut


class StageOut(Schema):
    """A stage of a run's pipeline."""

    name: str
    label: str
    position: int
    state: StageState
    reason: str
    progress: float | None = Field(description="0 to 1, where it is known")
    attempt: int
    started_at: datetime | None
    ended_at: datetime | None


class PartOut(Schema):
    """A device's part in a run."""

    edge_id: int
    name: str
    client_index: int
    status: InstanceStatus
    reason: str
    since: datetime
    phase: str
    progress: float | None
    online: bool
    exit_code: int | None


class RunDetail(RunOut):
    """A run with its frozen copy of a configuration, its limits and its devices."""

    model_config = ConfigDict(populate_by_name=True)

    backend_reason: str
    limits: dict[str, Any]
    server_package: str = Field(description="sha256")
    client_package: str = Field(description="sha256")
    model_rows: list[RowOut] = Field(alias="model_config")
    hyperparameters_config: list[RowOut]
    overrides: list[str] = Field(description="the values that differ from the configuration's")
    private_data_path: str
    synthetic_data_url: str
    devices: list[PartOut]
    start_refused: str = Field(default="", description="why a run that was created could not be started at once")


class RunStatus(Schema):
    """Where a run is."""

    cursor: int = Field(description="send it as `after` to wait for what comes later")
    run: RunOut
    stages: list[StageOut]
    devices: list[PartOut]


class Limits(Schema):
    """What an instance may use; what is missing has a default."""

    memory_mb: int | None = Field(default=None, ge=1, le=2**24)
    cpus: float | None = Field(default=None, ge=0.01, le=4096)
    pids: int | None = Field(default=None, ge=1, le=2**20)


class Reservations(Schema):
    """What the aggregator's node of a swarm must have free."""

    memory_mb: int | None = Field(default=None, ge=1, le=2**24)
    cpus: float | None = Field(default=None, ge=0.01, le=4096)


class RunLimits(Schema):
    """Limits of the instances of a run."""

    server: Limits = Limits()
    client: Limits = Limits()
    placement: list[str] = Field(default=[], max_length=20, description="conditions such as node.labels.zone == a")
    reservations: Reservations = Reservations()


class RunPlan(Schema):
    """What a run would be made of."""

    configuration_id: int | None = Field(default=None, ge=1, le=ID_MAX)
    repeats_run_id: int | None = Field(
        default=None, ge=1, le=ID_MAX, description="in place of a configuration: a run of the project to do again"
    )
    device_ids: list[Annotated[int, Field(ge=1, le=ID_MAX)]] = Field(min_length=1, max_length=10_000)
    overrides: dict[str, Value] = Field(
        {}, description="values for this run alone, such as {hyperparameters_config.lr: 0.1}"
    )


class RunIn(RunPlan):
    """A run to create."""

    initial_model_id: int | None = Field(
        default=None, ge=1, le=ID_MAX, description="a model of a run of the project, from which the aggregator starts"
    )

    name: str = Field(default="", max_length=120, description="two words are made up where it is empty")
    limits: RunLimits = RunLimits()
    backend: Literal["process", "docker", "swarm"] | None = Field(
        default=None, description="the installation's where null"
    )
    start: bool = Field(default=False, description="start it at once")


class RunChange(Schema):
    """Another name for a run."""

    name: str = Field(max_length=1000)


class StopIn(Schema):
    """Why a run is stopped."""

    reason: str = Field(default="", max_length=500)


class CommandOut(Schema):
    """What one reporter of a run is started with; tokens are no part of it."""

    reporter: str
    command: str = Field(description="empty where an expression cannot be resolved")
    problem: str


@router.get("/runs", auth=READ, response=Page[RunOut], summary="List runs")
def run_list(
    request: HttpRequest,
    query: Query[PageQuery],
    sort: str = sort_query(RUNS),
    project_id: OptionalId = None,
    configuration_id: OptionalId = None,
    state: RunState | None = None,
) -> dict[str, Any]:
    """The runs of your projects."""
    wanted: dict[str, Any] = {"project_id": project_id, "configuration_id": configuration_id, "state": state}
    given = {name: value for name, value in wanted.items() if value is not None}
    runs = runs_listed(Run.objects.visible_to(user_of(request)).filter(**given))
    rows, page = rows_page(runs, RUNS, query, sort)
    return {"items": [RunOut(**_facts(row)) for row in rows], **page}


@router.post(
    "/projects/{project_id}/runs", auth=RUN_SCOPE, response={201: RunDetail}, by_alias=True, summary="Create a run"
)
def run_create(
    request: HttpRequest, project_id: Id, payload: RunIn, idempotency_key: IdempotencyKey = None
) -> Status[Any]:
    """Members and owners of the project may. With an `Idempotency-Key`, sending it again makes no second run."""
    user = user_of(request)
    project = project_for_run(user, project_id)

    def act() -> RunDetail:
        try:
            run = lifecycle.run_create(
                project=project,
                user=user,
                name=payload.name,
                limits=payload.limits.dict(exclude_none=True),
                backend=payload.backend,
                initial_model=_initial_model(payload, project),
                **_plan(payload, project, user),
            )
        except lifecycle.RunRefused as refused:
            raise ApiProblem(422, "refused", str(refused)) from refused
        refusal = ""
        if payload.start:
            try:
                lifecycle.run_start(run=run, user=user)
            except lifecycle.RunRefused as refused:
                refusal = str(refused)
        return _detail(run_for_user(user, run.pk), refusal)

    return done_once(request, idempotency_key, act)


@router.post(
    "/projects/{project_id}/runs/preview",
    auth=RUN_SCOPE,
    response=list[CommandOut],
    summary="Show what a run would start",
)
def run_preview(request: HttpRequest, project_id: Id, payload: RunPlan) -> list[CommandOut]:
    """Nothing is saved."""
    user = user_of(request)
    project: Project = project_for_run(user, project_id)
    try:
        commands = lifecycle.run_preview(project=project, user=user, **_plan(payload, project, user))
    except lifecycle.RunRefused as refused:
        raise ApiProblem(422, "refused", str(refused)) from refused
    return [CommandOut(reporter=label, command=shlex.join(command), problem="") for label, command in commands]


@router.get("/runs/{run_id}", auth=READ, response=RunDetail, by_alias=True, summary="Show a run")
def run_show(request: HttpRequest, run_id: RunId) -> RunDetail:
    return _detail(run_for_user(user_of(request), run_id))


@router.patch("/runs/{run_id}", auth=RUN_SCOPE, response=RunDetail, by_alias=True, summary="Rename a run")
def run_change(request: HttpRequest, run_id: RunId, payload: RunChange) -> RunDetail:
    user = user_of(request)
    try:
        lifecycle.run_rename(run=run_for_change(user, run_id), name=payload.name)
    except lifecycle.RunRefused as refused:
        raise ApiProblem(422, "refused", str(refused)) from refused
    return _detail(run_for_user(user, run_id))


@router.post("/runs/{run_id}/start", auth=RUN_SCOPE, response=RunDetail, by_alias=True, summary="Start a run")
def run_start(request: HttpRequest, run_id: RunId) -> RunDetail:
    """Its devices must be online and free."""
    user = user_of(request)
    lifecycle.run_start(run=run_for_change(user, run_id), user=user)
    return _detail(run_for_user(user, run_id))


@router.post("/runs/{run_id}/stop", auth=RUN_SCOPE, response=RunDetail, by_alias=True, summary="Stop a run")
def run_stop(request: HttpRequest, run_id: RunId, payload: StopIn | None = None) -> RunDetail:
    """It is STOPPING until everything that works for it has ended, then KILLED. Stopping it again changes nothing."""
    user = user_of(request)
    reason = payload.reason if payload else ""
    lifecycle.run_stop(run=run_for_change(user, run_id), user=user, reason=reason)
    return _detail(run_for_user(user, run_id))


@router.get("/runs/{run_id}/status", auth=READ, response=RunStatus, summary="Follow a run")
async def run_status(
    request: HttpRequest,
    run_id: RunId,
    after: Annotated[int, Query(ge=-1, le=ID_MAX, description="the cursor of the answer before")] = -1,
    wait: Wait = 0.0,
) -> RunStatus:
    """Where the run is. With `after` and `wait` the answer comes as soon as the run has news, or when the time is over.

    Nothing can be missed: each answer tells everything, and `cursor` moves with every change of the run.
    """
    user = user_of(request)
    deadline = time.monotonic() + wait
    while True:
        cursor = await sync_to_async(_cursor)(user, run_id)
        if cursor != after or time.monotonic() >= deadline:
            return await sync_to_async(_status)(user, run_id)
        await asyncio.sleep(LOOK_SECONDS)


@router.get("/runs/{run_id}/commands", auth=READ, response=list[CommandOut], summary="Show a run's commands")
def run_commands(request: HttpRequest, run_id: RunId) -> list[CommandOut]:
    """What the aggregator and each device (the first 100) are started with."""
    draft = run_draft(run_for_user(user_of(request), run_id))
    reporters = [(0, "server"), *((client.edge_id, f"edge:{client.edge_id}") for client in draft.clients)]
    return [_command(draft, edge_id, label) for edge_id, label in reporters[:COMMANDS_MAX]]


def stages_out(run: Run) -> list[StageOut]:
    """Describe the stages of a run, in their order."""
    return [StageOut.model_validate(_dated(stage_item(stage))) for stage in run.stages.all()]


def parts_out(run: Run) -> list[PartOut]:
    """Describe the parts that devices take in a run, in the order of the clients."""
    parts: list[RunDevice] = list(run.run_devices.select_related("device"))
    return [PartOut.model_validate(_dated(device_item(part))) for part in parts]


def _plan(payload: RunPlan, project: Project, user: User) -> dict[str, Any]:
    source: Configuration | Run
    if payload.repeats_run_id is not None and payload.configuration_id is None:
        source = get_object_or_404(project.runs, pk=payload.repeats_run_id)
    elif payload.configuration_id is not None and payload.repeats_run_id is None:
        source = configuration_for_user(user, payload.configuration_id)
    else:
        raise ApiProblem(422, "invalid", "Send either configuration_id or repeats_run_id.")
    return {
        "configuration": source,
        "device_ids": payload.device_ids,
        "overrides": payload.overrides,
    }


def _initial_model(payload: RunIn, project: Project) -> StoredModel | None:
    if payload.initial_model_id is None:
        return None
    models = StoredModel.objects.select_related("run__project")
    return get_object_or_404(models, pk=payload.initial_model_id, run__project=project)


def _cursor(user: User, run_id: int) -> int:
    return run_for_user(user, run_id).frame_number


def _status(user: User, run_id: int) -> RunStatus:
    run = run_for_user(user, run_id)
    return RunStatus(cursor=run.frame_number, run=RunOut(**_facts(run)), stages=stages_out(run), devices=parts_out(run))


def _command(draft: RunDraft, edge_id: int, label: str) -> CommandOut:
    try:
        entry = lifecycle.run_render(draft, edge_id)
    except ExpressionError as error:
        return CommandOut(reporter=label, command="", problem=str(error))
    return CommandOut(reporter=label, command=shlex.join(["python", entry.file, *entry.arguments]), problem="")


def _facts(run: Run) -> dict[str, Any]:
    item = run_item(run)
    counted = getattr(run, "device_count", None)
    return {
        "id": run.pk,
        "name": run.name,
        "project_id": run.project_id,
        "configuration_id": run.configuration_id,
        "configuration_name": run.configuration_copy.get("name", ""),
        "repeats_run_id": run.parent_id,
        "state": run.state,
        "state_label": item["label"],
        "reason": run.reason,
        "since": run.state_since,
        "ended": run.state in RunState.ended(),
        "created_by": run.created_by.get_username() if run.created_by else None,
        "started_by": run.started_by.get_username() if run.started_by else None,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "backend": run.backend,
        "device_count": run.run_devices.count() if counted is None else counted,
        "rounds_done": run.round_index + 1,
        "total_rounds": run.total_rounds,
        "running_time": run.running_time,
        "best_metric": item["best_metric"],
        "aggregator": AggregatorOut.model_validate(_dated(item["aggregator"])),
    }


def _detail(run: Run, start_refused: str = "") -> RunDetail:
    copy: Mapping[str, Any] = run.configuration_copy
    shown = {
        **_facts(run),
        "backend_reason": run.backend_reason,
        "limits": run.limits,
        "server_package": run.server_package.sha256,
        "client_package": run.client_package.sha256,
        "model_config": copy.get("model_config", []),
        "hyperparameters_config": copy.get("hyperparameters_config", []),
        "overrides": copy.get("overrides", []),
        "private_data_path": copy.get("private_data_path", ""),
        "synthetic_data_url": copy.get("synthetic_data_url", ""),
        "devices": parts_out(run),
        "start_refused": start_refused,
    }
    return RunDetail.model_validate(shown)


def _dated(item: Mapping[str, Any]) -> dict[str, Any]:
    """Turn an item of the live page into what the API shows: moments in place of seconds."""
    moments = {name: item[name] for name in ("since", "started_at", "ended_at") if item.get(name) is not None}
    return {**item, **{name: datetime.fromtimestamp(seconds, UTC) for name, seconds in moments.items()}}
