"""Which backend a new run uses, and why: from what the workers found.

The workers build packages and run aggregators, so what a backend lacks is for them to find; the process that shows the
form may stand on another machine, without the engine. A worker looks when it starts and every half minute, and keeps
what it found in Redis.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import orjson
import redis
from django.conf import settings
from pydantic import TypeAdapter, ValidationError

from runs.live.frames import redis_client
from runs.pipeline.backends import BACKENDS, BackendUnknown, backend_get

logger = logging.getLogger(__name__)

KEY = "pipeline:backends"
LATE_SECONDS = 180.0  # a worker that has not looked for so long is away, or has much to do


@dataclass(frozen=True)
class BackendFinding:
    """What was found of one backend.

    Attributes:
        available: whether it can be used, with ``why``, a sentence that says what was found or is missing.
        suits: whether ``auto`` should take it, with the sentence ``suits_why``.
        since: since when this is so, as far as anybody has looked (seconds since the epoch).
    """

    available: bool
    why: str
    suits: bool
    suits_why: str
    since: float


@dataclass(frozen=True)
class BackendFindings:
    """What was found of all backends, by name, and when (seconds since the epoch)."""

    looked_at: float
    backends: Mapping[str, BackendFinding]
    by_worker: bool = False


_findings: TypeAdapter[BackendFindings] = TypeAdapter(BackendFindings)


@dataclass(frozen=True)
class BackendChoice:
    """The backend that a run uses.

    Attributes:
        name, label: the backend's.
        why: what chose it, and what was found or is missing, in sentences.
        since: since when it is known to be like this.
        looked_at: when it was last looked at.
        by_worker: a worker has looked; otherwise this process, as no worker has told anything.
        late: no worker has looked for a while.
    """

    name: str
    label: str
    why: str
    since: datetime | None = field(default=None, compare=False)
    looked_at: datetime | None = field(default=None, compare=False)
    by_worker: bool = field(default=False, compare=False)
    late: bool = field(default=False, compare=False)


def backends_look() -> BackendFindings:
    """Look at every backend, here and now."""
    now = time.time()
    backends = {}
    for backend in BACKENDS.values():
        available, why = backend.available()
        suits, suits_why = backend.recommended() if available else (False, why)
        backends[backend.name] = BackendFinding(available, why, suits, suits_why, since=now)
    return BackendFindings(now, backends)


def backends_tell() -> None:
    """Look at every backend and keep what was found for all processes; with Redis away this is skipped."""
    found = backends_look()
    before = backends_told()
    known = before.backends if before else {}
    told = BackendFindings(
        found.looked_at,
        {name: _since_before(finding, known.get(name)) for name, finding in found.backends.items()},
        by_worker=True,
    )
    try:
        redis_client().set(KEY, orjson.dumps(told))
    except (redis.RedisError, OSError) as error:
        logger.warning("what was found of the backends could not be told: Redis is away (%s)", error)


def backends_told() -> BackendFindings | None:
    """Return what a worker last told; None where none has, or Redis is away."""
    try:
        value = cast("bytes | None", redis_client().get(KEY))
        return None if value is None else _findings.validate_json(value)
    except (redis.RedisError, OSError):
        return None
    except ValidationError:  # of another version of the platform
        return None


def backend_choice(name: str | None = None, *, findings: BackendFindings | None = None) -> BackendChoice:
    """Return the backend that a new run uses, and why.

    Args:
        name: a backend's name; None or empty for the installation's setting. ``auto`` takes the first that suits: a
            swarm of several nodes, then an engine, both with a registry, then processes. One that is named is taken
            even where it cannot be used at this moment: a stage then says what it lacks.
        findings: what was found of the backends; by default what a worker told, or else what this process finds.

    Raises:
        BackendUnknown: there is no such backend, or none works.
    """
    wanted = name or settings.BACKEND
    if wanted != "auto":
        backend_get(wanted)  # before anything is looked at
    found = findings or backends_told()
    if found is None or not set(BACKENDS) <= set(found.backends):
        found = backends_look()
    if wanted != "auto":
        set_by = "Chosen for this run." if name else "Set by ROUNDTABLE_BACKEND."
        return _choice(wanted, f"{set_by} {found.backends[wanted].why}", found)
    reasons: list[str] = []
    for backend in BACKENDS:
        finding = found.backends[backend]
        if finding.suits:
            return _choice(backend, " ".join(["Found by itself.", finding.suits_why, *reasons]), found)
        reasons.append(f"Not {backend}: {finding.suits_why}")
    raise BackendUnknown(f"No backend can be used on this machine. {' '.join(reasons)}")


def backend_choose(name: str | None = None) -> str:
    """Return the name of the backend that a new run uses; see ``backend_choice``."""
    return backend_choice(name).name


def _since_before(finding: BackendFinding, before: BackendFinding | None) -> BackendFinding:
    """Return the finding, known for as long as the one before where they say the same."""
    if before is None:
        return finding
    again = BackendFinding(finding.available, finding.why, finding.suits, finding.suits_why, before.since)
    return again if again == before else finding


def _choice(name: str, why: str, found: BackendFindings) -> BackendChoice:
    return BackendChoice(
        name,
        backend_get(name).label,
        why,
        since=datetime.fromtimestamp(found.backends[name].since, UTC),
        looked_at=datetime.fromtimestamp(found.looked_at, UTC),
        by_worker=found.by_worker,
        late=time.time() - found.looked_at > LATE_SECONDS,
    )
