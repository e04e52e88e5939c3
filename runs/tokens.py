"""Run tokens: what an instance shows to the platform. Good for one run and one reporter, until the run ends.

A token reads ``rtr_<run_id>_<edge_id>_<secret>``; the database keeps the SHA-256 digest of its secret. The secret is
derived from the run's attempt by a key that only the platform has. So a task that is delivered twice makes the same
token twice and invalidates nothing, and each new attempt of a run has tokens of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from django.conf import settings

from runs.models import Run, RunDevice

_FORM = re.compile(r"rtr_([0-9]{1,18})_([0-9]{1,18})_([0-9a-f]{64})")


@dataclass(frozen=True)
class RunReporter:
    """Who holds a run token: one reporter of one run. Edge 0 is the aggregator."""

    run: Run
    edge_id: int


def run_token_make(run: Run, edge_id: int) -> str:
    """Return the token of a reporter for the run's present attempt. It is good once its digest is stored.

    Raises:
        ValueError: the run was never started.
    """
    if not run.attempt_id:
        raise ValueError("a run that was never started has no tokens")
    key = hashlib.sha256(b"roundtable run token:" + settings.SECRET_KEY.encode()).digest()
    secret = hmac.new(key, f"{run.pk}:{edge_id}:{run.attempt_id}".encode(), hashlib.sha256).hexdigest()
    return f"rtr_{run.pk}_{edge_id}_{secret}"


def run_token_digest(token: str) -> str:
    """Return what is stored of a token: the SHA-256 digest of its secret, in hexadecimal."""
    return hashlib.sha256(token.rpartition("_")[2].encode()).hexdigest()


def run_token_check(token: str) -> RunReporter | None:
    """Return whose token this is, or None where it is not good: wrong, of an earlier attempt, or the run has ended.

    Takes the same time for every wrong secret.
    """
    match = _FORM.fullmatch(token)
    if match is None:
        return None
    run_id, edge_id = int(match[1]), int(match[2])
    run = Run.objects.active().filter(pk=run_id).first()
    if run is None:
        return None
    if edge_id == 0:
        stored = run.aggregator_token_hash
    else:
        stored = RunDevice.objects.filter(run=run, edge_id=edge_id).values_list("token_hash", flat=True).first() or ""
    if not stored or not hmac.compare_digest(stored, run_token_digest(token)):
        return None
    return RunReporter(run, edge_id)
