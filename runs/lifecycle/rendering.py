"""The entry command of each reporter of a run, with every expression resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from configurations.expressions import (
    PRIVATE_LOCAL_DATA_TOKEN,
    ExpressionError,
    InternalVariables,
    RenderedEntry,
    render_entry,
)
from devices.models import Device
from runs.lifecycle.errors import RunRefused
from runs.models import Run

AGGREGATOR_EDGE_ID = 0


@dataclass(frozen=True)
class ClientPlan:
    """One device's place in a run."""

    edge_id: int
    client_index: int
    name: str = ""
    os_type: str = ""
    arch: str = ""


@dataclass(frozen=True)
class RunDraft:
    """What the entry commands of a run are made from, whether the run exists already or not (``run_id`` is then 0)."""

    run_id: int
    configuration_copy: Mapping[str, Any]
    clients: Sequence[ClientPlan]


def run_draft(run: Run) -> RunDraft:
    """Return the draft of a run that exists."""
    parts = run.run_devices.select_related("device")
    clients = [
        ClientPlan(part.edge_id, part.client_index, part.device.name, part.device.os, part.device.arch)
        if part.device
        else ClientPlan(part.edge_id, part.client_index)
        for part in parts
    ]
    return RunDraft(run.pk, run.configuration_copy, clients)


def clients_plan(devices: Iterable[Device]) -> list[ClientPlan]:
    """Give devices their client indices: 1..n in the order of the edge ids."""
    ordered = sorted(devices, key=lambda device: device.pk)
    return [
        ClientPlan(device.pk, index, device.name, device.os, device.arch)
        for index, device in enumerate(ordered, start=1)
    ]


def run_render(run: Run | RunDraft, edge_id: int) -> RenderedEntry:
    """Return the entry command and the rendered ``fedml.yaml`` of one reporter of a run.

    The preview on the pages and the launch use this same function.

    Args:
        run: a run, or the draft of one.
        edge_id: 0 for the aggregator, else the edge id of a device of the run.

    Raises:
        ExpressionError: an expression cannot be resolved.
        LookupError: the device does not take part in the run.
    """
    draft = run if isinstance(run, RunDraft) else run_draft(run)
    copy = draft.configuration_copy
    manifest = copy["server"] if edge_id == AGGREGATOR_EDGE_ID else copy["client"]
    rows = copy["model_config"], copy["hyperparameters_config"]
    return render_entry(manifest, *rows, _variables(draft, edge_id))


def _variables(draft: RunDraft, edge_id: int) -> InternalVariables:
    copy = draft.configuration_copy
    private_path = copy.get("private_data_path") or ""
    if edge_id == AGGREGATOR_EDGE_ID:
        index, id_list, private = 0, [client.edge_id for client in draft.clients], ""
    else:
        index = next((client.client_index for client in draft.clients if client.edge_id == edge_id), 0)
        if not index:
            raise LookupError(f"Device {edge_id} does not take part in run {draft.run_id}.")
        id_list, private = [edge_id], PRIVATE_LOCAL_DATA_TOKEN if private_path else ""
    return InternalVariables(
        run_id=draft.run_id,
        client_num=len(draft.clients),
        client_id_list=id_list,
        client_index=index,
        client_object_list=[
            {"id": client.edge_id, "os_type": client.os_type, "arch": client.arch} for client in draft.clients
        ],
        private_local_data=private,
        synthetic_data_url=synthetic_data_url(draft.run_id, copy),
        is_using_local_data=1 if private_path else 0,
        log_server_url=f"{settings.PUBLIC_URL}/api/runs/{draft.run_id}/logs",
    )


def synthetic_data_url(run_id: int, copy: Mapping[str, Any]) -> str:
    """Return where the run's clients download their training data, or an empty string.

    Data that was uploaded to the platform wins over a URL.
    """
    if copy.get("synthetic_data_sha256"):
        return f"{settings.PUBLIC_URL}/api/runs/{run_id}/data"
    return copy.get("synthetic_data_url") or ""


def draft_check(draft: RunDraft) -> None:
    """Render every reporter's entry command.

    Raises:
        RunRefused: with the first sentence that says what cannot be resolved, and for whom.
    """
    reporters = [(AGGREGATOR_EDGE_ID, "the server")]
    reporters += [(client.edge_id, f"the client on {client.name or client.edge_id}") for client in draft.clients]
    for edge_id, label in reporters:
        try:
            run_render(draft, edge_id)
        except ExpressionError as error:
            raise RunRefused(f"The entry command of {label} cannot be made. {error}") from error
