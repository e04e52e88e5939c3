"""Topics of the platform's own dialect: what a message is and who sent it, whatever it holds.

What is done with a message is decided by its kind alone (``runs.telemetry.ingest``), so that another dialect needs a
module like this one and nothing else.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple


class Kind(enum.Enum):
    """What a message is. The value is the last part of its topic."""

    PRESENCE = "presence"
    STATUS = "status"
    METRICS = "metrics"
    ROUND = "round"
    EVENT = "event"
    SYSTEM = "system"
    MODEL = "model"
    LOG = "log"


class Address(NamedTuple):
    """Who sent a message: a device as a whole (``run_id`` is None), or a reporter of a run (edge 0: the aggregator)."""

    kind: Kind
    run_id: int | None
    edge_id: int


# The broker binds each credential to its own topics; what is in the topic is therefore who sent the message.
EDGE_KINDS = (Kind.PRESENCE, Kind.STATUS)
RUN_KINDS = (Kind.METRICS, Kind.ROUND, Kind.EVENT, Kind.SYSTEM, Kind.MODEL, Kind.LOG, Kind.STATUS)

_NUMBER = "(0|[1-9][0-9]{0,17})"  # fits a database's 64-bit integer
_EDGE_TOPIC = re.compile(rf"edges/{_NUMBER}/({'|'.join(kind.value for kind in EDGE_KINDS)})")
_RUN_TOPIC = re.compile(rf"runs/{_NUMBER}/{_NUMBER}/({'|'.join(kind.value for kind in RUN_KINDS)})")
_KINDS = {kind.value: kind for kind in Kind}


def topic_parse(topic: str) -> Address | None:
    """Return what a topic says, or None for one that is not of this dialect."""
    if found := _RUN_TOPIC.fullmatch(topic):
        return Address(_KINDS[found[3]], int(found[1]), int(found[2]))
    if found := _EDGE_TOPIC.fullmatch(topic):
        return Address(_KINDS[found[2]], None, int(found[1]))
    return None


def subscriptions(slot: int) -> list[str]:
    """Return the topic filters of an ingest worker.

    Telemetry of runs is shared among all workers. What devices say of themselves must be heard in order, and retained
    messages do not reach shared subscriptions, so that the worker of slot 0 alone hears it.
    """
    filters = [f"$share/ingest/runs/+/+/{kind.value}" for kind in RUN_KINDS]
    if slot == 0:
        filters += [f"edges/+/{kind.value}" for kind in EDGE_KINDS]
    return filters
