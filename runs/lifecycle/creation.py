"""Making a run: a frozen copy of a configuration, and the devices that take part."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import transaction

from configurations.models import Configuration
from configurations.rows import SECTIONS, Value, row_type, value_parse, value_problem
from configurations.services import configuration_copy
from devices.models import Device
from runs.lifecycle.errors import RunRefused
from runs.lifecycle.rendering import AGGREGATOR_EDGE_ID, RunDraft, clients_plan, draft_check, run_render
from runs.lifecycle.turn import run_notice_send
from runs.model_store import model_copy
from runs.models import Project, Role, Run, RunDevice, StoredModel
from runs.names import run_name_suggest
from runs.pipeline.backend_choice import BackendChoice, backend_choice
from runs.pipeline.backends import BackendUnknown

DEFAULT_LIMITS = {"memory_mb": 4096, "cpus": 2.0, "pids": 256}
_PLACEMENT = re.compile(
    r"(?P<key>(?:node|engine)\.[A-Za-z0-9][\w./-]{0,100})\s*(?P<operator>==|!=)\s*(?P<value>[\w.:/-]{1,200})"
)
LIMIT_RANGES = {"memory_mb": (16, 2**24), "cpus": (0.01, 4096), "pids": (1, 2**20)}


def run_create(
    *,
    project: Project,
    user: Any,
    configuration: Configuration | Run,
    device_ids: Iterable[int],
    name: str = "",
    overrides: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    backend: str | None = None,
    initial_model: StoredModel | None = None,
) -> Run:
    """Create a run in state CREATED. Nothing is built or started yet.

    Args:
        project: where the run belongs; ``user`` must be its owner or a member.
        user: who creates the run.
        configuration: what it is made from; must be visible to ``user``. The run keeps a frozen copy. A run stands for
            the copy that it keeps: the new one repeats it.
        device_ids: edge ids of devices of the project, at least one. They may be offline or busy until the start.
        name: up to 120 characters; two random words when empty.
        overrides: values for this run alone, ``{"hyperparameters_config.lr": 0.1}``; text is read by the row's type.
        limits: ``{"server": {"memory_mb", "cpus", "pids"}, "client": {...}}``; what is missing has a default. For a
            swarm also ``"placement": ["node.labels.zone == a", ...]``, which the aggregator's node must fulfil, and
            ``"reservations": {"memory_mb", "cpus"}``, which it must have free.
        backend: name of a backend; the installation's when None.
        initial_model: weights from which the aggregator starts; of a run of the same project.

    Raises:
        RunRefused: with a sentence that says what to change.
    """
    overrides = overrides or {}
    draft = draft_make(
        project=project, user=user, configuration=configuration, device_ids=device_ids, overrides=overrides
    )
    draft_check(draft)
    chosen = _backend(backend)
    name = name.strip() or run_name_suggest()
    if len(name) > 120:
        raise RunRefused("The name of a run may have 120 characters at most; use a shorter one.")
    run = Run(
        project=project,
        name=name,
        created_by=user,
        configuration=configuration.configuration if isinstance(configuration, Run) else configuration,
        parent=configuration if isinstance(configuration, Run) else None,
        configuration_copy=dict(draft.configuration_copy),
        server_package=configuration.server_package,
        client_package=configuration.client_package,
        backend=chosen.name,
        backend_reason=chosen.why,
        limits=_limits(limits or {}),
    )
    with transaction.atomic():
        run.save()
        RunDevice.objects.bulk_create(
            RunDevice(run=run, device_id=client.edge_id, edge_id=client.edge_id, client_index=client.client_index)
            for client in draft.clients
        )
        run_notice_send(run)
    if initial_model is not None:
        _model_seed(run, initial_model)
    return run


def _model_seed(run: Run, model: StoredModel) -> None:
    """Give the new run its own copy of the model, so that it needs nothing of the other run; without it there is none.

    Raises:
        RunRefused: the model is not there, or of another project.
    """
    try:
        if model.run.project_id != run.project_id:
            raise RunRefused("A run starts from models of its own project.")
        copied = model_copy(model, run.pk)
    except FileNotFoundError as error:
        run.delete()
        raise RunRefused(
            f"The weights of round {model.round_index + 1} are not in the store (any more), so that no run can start "
            "from them. Choose a model that can be downloaded."
        ) from error
    except BaseException:
        run.delete()
        raise
    run.initial_model, run.initial_key = model, copied.key
    run.save(update_fields=["initial_model", "initial_key"])


def run_preview(
    *,
    project: Project,
    user: Any,
    configuration: Configuration | Run,
    device_ids: Iterable[int],
    overrides: Mapping[str, Any] | None = None,
) -> list[tuple[str, list[str]]]:
    """Return what a run would start: for the server and each client its label and its command as an argument list.

    The run's id is shown as 0, since there is no run yet.

    Raises:
        RunRefused: the run could not be created; the sentence says why.
    """
    draft = draft_make(
        project=project, user=user, configuration=configuration, device_ids=device_ids, overrides=overrides or {}
    )
    draft_check(draft)
    labels = [(AGGREGATOR_EDGE_ID, "server")]
    labels += [(client.edge_id, f"client {client.client_index}: {client.name}") for client in draft.clients]
    commands = []
    for edge_id, label in labels:
        rendered = run_render(draft, edge_id)
        commands.append((label, ["python", rendered.file, *rendered.arguments]))
    return commands


def draft_make(
    *,
    project: Project,
    user: Any,
    configuration: Configuration | Run,
    device_ids: Iterable[int],
    overrides: Mapping[str, Any],
) -> RunDraft:
    """Check who asks for what, and return the run that would be made.

    Raises:
        RunRefused: with a sentence that says what to change.
    """
    role = project.role_of(user)
    if role is None:
        raise RunRefused("You are not a member of this project; ask its owner to add you.")
    if role == Role.VIEWER:
        raise RunRefused("Viewers cannot create runs; ask an owner of the project to make you a member.")
    frozen = _frozen(project, user, configuration)
    _override(frozen, overrides)
    return RunDraft(0, frozen, clients_plan(_devices(project, device_ids)))


def _frozen(project: Project, user: Any, configuration: Configuration | Run) -> dict[str, Any]:
    """The copy that the run is to keep."""
    if isinstance(configuration, Run):
        if configuration.project_id != project.pk:
            raise RunRefused("A run is repeated in its own project.")
        return copy.deepcopy(configuration.configuration_copy)
    if not Configuration.objects.visible_to(user).filter(pk=configuration.pk).exists():
        raise RunRefused("This configuration is not visible to you; choose one of yours or of your projects.")
    return configuration_copy(configuration)


def _devices(project: Project, device_ids: Iterable[int]) -> list[Device]:
    wanted = sorted(set(device_ids))
    if not wanted:
        raise RunRefused("Choose at least one device.")
    devices = list(Device.objects.of_project(project).filter(pk__in=wanted))
    missing = sorted(set(wanted) - {device.pk for device in devices})
    if missing:
        raise RunRefused(
            f"Device {', '.join(map(str, missing))} cannot be used in this project: it is not bound, or its owner is "
            "not a member. Choose devices from the list."
        )
    return devices


def _override(frozen: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Apply the values of this run alone to the frozen copy, and note which rows they changed."""
    for section in SECTIONS:
        frozen[section] = copy.deepcopy(frozen[section])
    rows = {f"{section}.{row['name']}": row for section in SECTIONS for row in frozen[section]}
    changed = []
    for name, given in overrides.items():
        if name not in rows:
            raise RunRefused(f"The configuration has no value named {name}, so that it cannot be changed for this run.")
        row = rows[name]
        value = _override_value(name, row, given)
        if value != row["value"] or type(value) is not type(row["value"]):
            row["value"] = value
            changed.append(name)
    earlier = frozen.get("overrides", [])
    frozen["overrides"] = [*earlier, *(name for name in changed if name not in earlier)]


def _override_value(name: str, row: Mapping[str, Any], given: Any) -> Value:
    """Return ``given`` as a value of the row's type; an expression may stand in for a value of any type."""
    if isinstance(given, str):
        try:
            return value_parse(row["type"], given)
        except ValueError as error:
            raise RunRefused(f"{name}: {error}") from error
    if problem := value_problem(given):
        raise RunRefused(f"{name}: {problem}")
    value: Value = given
    if row["type"] == "float" and row_type(value) == "integer":
        value = float(given)
    if row_type(value) != row["type"]:
        raise RunRefused(f"{name} is of type {row['type']} in the configuration, but the value given is not.")
    return value


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(given) - {"server", "client", "placement", "reservations"})
    if unknown:
        raise RunRefused(f"Limits are given for the server and the client, not for {', '.join(unknown)}.")
    limits: dict[str, Any] = {kind: _limits_of(kind, given.get(kind) or {}) for kind in ("server", "client")}
    if given.get("placement"):
        limits["placement"] = [placement_condition(text) for text in given["placement"]]
    if given.get("reservations"):
        limits["reservations"] = _reservations(given["reservations"], limits["server"])
    return limits


def placement_condition(text: str) -> str:
    """Return a condition on the node of a swarm as the engine wants it.

    Raises:
        RunRefused: it is none.
    """
    match = _PLACEMENT.fullmatch(text.strip())
    if match is None:
        raise RunRefused(
            f"{text.strip()[:100]!r} is no condition on a node. Write conditions such as node.labels.zone == a or "
            "node.hostname != old-one, one a line."
        )
    return f"{match['key']}{match['operator']}{match['value']}"


def _reservations(given: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(given) - {"memory_mb", "cpus"})
    if unknown:
        raise RunRefused(f"Memory and CPUs can be reserved, but not {', '.join(unknown)}.")
    reserved: dict[str, float] = {}
    for name, value in given.items():
        checked = _number("reservation", "server", name, value)
        if checked > limits[name]:
            raise RunRefused(f"The server's reservation {name} is above its limit of {limits[name]}. Reserve less.")
        reserved[name] = checked
    return reserved


def _limits_of(kind: str, given: Mapping[str, Any]) -> dict[str, float]:
    unknown = sorted(set(given) - set(DEFAULT_LIMITS))
    if unknown:
        raise RunRefused(f"There is no limit named {', '.join(unknown)}; there are {', '.join(DEFAULT_LIMITS)}.")
    limits: dict[str, float] = {}
    for name, default in DEFAULT_LIMITS.items():
        limits[name] = _number("limit", kind, name, given.get(name, default))
    return limits


def _number(what: str, kind: str, name: str, value: Any) -> float:
    low, high = LIMIT_RANGES[name]
    whole = name != "cpus"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        kind_of_number = "a whole number" if whole else "a number"
        raise RunRefused(f"The {kind}'s {what} {name} must be {kind_of_number} from {low} to {high}.")
    return value


def _backend(name: str | None) -> BackendChoice:
    try:
        return backend_choice(name)
    except BackendUnknown as error:
        raise RunRefused(str(error)) from error
