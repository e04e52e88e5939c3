"""First signs of life: when the instance on a device was itself heard of, after its agent had said that it is open."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from runs.live.payloads import DeviceItem, device_item
from runs.models import Run, RunDevice
from runs.telemetry.payloads import EventPayload, LogPayload, MetricsPayload, ModelPayload

if TYPE_CHECKING:
    from runs.telemetry.storage import Report

_KNOWN_MOST = 20_000
# (run, its attempt, edge) of which it is known already: a run's every batch would otherwise ask the database.
_known: OrderedDict[tuple[int, str, int], None] = OrderedDict()


def signs_of_life(reports: Iterable[Report]) -> dict[int, set[int]]:
    """Return the edges whose instance wrote one of the reports, by run; the agent's own reports are no such sign."""
    found: dict[int, set[int]] = defaultdict(set)
    for report in reports:
        if report.edge_id and _is_of_instance(report):
            found[report.run_id].add(report.edge_id)
    return found


def life_apply(run: Run, edge_ids: Collection[int]) -> list[DeviceItem]:
    """Note that these devices' instances live, and return what is new of it for the open pages.

    To be called in a transaction that holds the run's row.
    """
    new = [edge_id for edge_id in edge_ids if (run.pk, run.attempt_id, edge_id) not in _known]
    if not new:
        return []
    parts = list(RunDevice.objects.filter(run=run, edge_id__in=new).select_related("device"))
    # What comes before the agent's first word is left from an earlier attempt.
    born = [part for part in parts if part.alive_at is None and part.first_report_at is not None]
    now = timezone.now()
    for part in born:
        part.alive_at = now
    if born:
        RunDevice.objects.filter(pk__in=[part.pk for part in born]).update(alive_at=now)
    known = [part.edge_id for part in parts if part.alive_at is not None]
    transaction.on_commit(lambda: _remember(run, known))
    return [device_item(part) for part in born]


def _is_of_instance(report: Report) -> bool:
    payload = report.payload
    if isinstance(payload, LogPayload):
        return any(line["stream"] != "agent" for line in payload.lines)
    return isinstance(payload, MetricsPayload | EventPayload | ModelPayload)


def _remember(run: Run, edge_ids: Iterable[int]) -> None:
    for edge_id in edge_ids:
        _known[run.pk, run.attempt_id, edge_id] = None
    while len(_known) > _KNOWN_MOST:
        _known.popitem(last=False)
