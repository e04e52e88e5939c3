"""The series of each reporter, found or made, and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction

from runs.live.payloads import SeriesDescriptor, series_descriptor
from runs.models import Series
from runs.telemetry.refusals import Reason, Refused

SERIES_PER_REPORTER = 2_000  # a name that holds a number that counts up would otherwise fill the database


class SeriesKey(NamedTuple):
    """What names a series."""

    run_id: int
    edge_id: int
    kind: str
    name: str


Reporter = tuple[int, int]  # run, edge


class SeriesBook:
    """Ids of series by key. Only what is committed is remembered; the least used reporters are forgotten."""

    REPORTERS_KEPT = 5_000

    def __init__(self) -> None:
        self._known: OrderedDict[Reporter, dict[SeriesKey, int]] = OrderedDict()

    def resolve(self, keys: Iterable[SeriesKey]) -> tuple[dict[SeriesKey, int], list[SeriesDescriptor]]:
        """Return the id of every key, making the series that are missing, and the descriptors of those that are new.

        To be called in the transaction that stores the series' first points.

        Raises:
            Refused: a reporter would have more than 2,000 series.
        """
        wanted: dict[Reporter, set[SeriesKey]] = {}
        for key in keys:
            wanted.setdefault((key.run_id, key.edge_id), set()).add(key)
        found: dict[SeriesKey, int] = {}
        missing: list[SeriesKey] = []
        for reporter, its_keys in wanted.items():
            known = self._of(reporter)
            for key in its_keys:
                if key in known:
                    found[key] = known[key]
                else:
                    missing.append(key)
            if len(known) + sum(key not in known for key in its_keys) > SERIES_PER_REPORTER:
                raise Refused(
                    Reason.TOO_MANY_SERIES,
                    f"reporter {reporter[1]} of run {reporter[0]} would have more than {SERIES_PER_REPORTER} series; "
                    "log a changing number as a value or a step, not in the name",
                )
        if not missing:
            return found, []
        created = self._create(missing)
        found |= {SeriesKey(one.run_id, one.edge_id, one.kind, one.name): one.pk for one in created}
        transaction.on_commit(lambda: self._remember(created))
        return found, [series_descriptor(one) for one in created if one.count == 0]

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._known.clear()

    def _of(self, reporter: Reporter) -> dict[SeriesKey, int]:
        known = self._known.get(reporter)
        if known is None:
            rows = Series.objects.filter(run_id=reporter[0], edge_id=reporter[1]).values_list("kind", "name", "id")
            known = {SeriesKey(*reporter, kind, name): series_id for kind, name, series_id in rows}
            # In a transaction that has made series of this reporter already, these are not committed.
            transaction.on_commit(lambda: self._keep(reporter, known))
        else:
            self._known.move_to_end(reporter)
        return known

    def _create(self, keys: list[SeriesKey]) -> list[Series]:
        """Make the series that nobody else made in the meantime, in one order, so that workers only wait in turn."""
        keys = sorted(keys)
        rows = [Series(run_id=key.run_id, edge_id=key.edge_id, kind=key.kind, name=key.name) for key in keys]
        Series.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000)
        names: dict[tuple[int, int, str], list[str]] = {}
        for key in keys:
            names.setdefault(key[:3], []).append(key.name)
        created: list[Series] = []
        for (run_id, edge_id, kind), some in names.items():
            created += Series.objects.filter(run_id=run_id, edge_id=edge_id, kind=kind, name__in=some)
        return created

    def _keep(self, reporter: Reporter, known: dict[SeriesKey, int]) -> None:
        self._known.setdefault(reporter, known)
        while len(self._known) > self.REPORTERS_KEPT:
            self._known.popitem(last=False)

    def _remember(self, created: list[Series]) -> None:
        for one in created:
            known = self._known.get((one.run_id, one.edge_id))
            if known is not None:
                known[SeriesKey(one.run_id, one.edge_id, one.kind, one.name)] = one.pk
