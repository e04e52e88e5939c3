"""A request that is sent again under the same ``Idempotency-Key`` is done once.

The key is stored in the transaction of what the request does: either both are there or neither is, whatever dies, and
of two requests at the same moment the unique constraint lets one through and the other gets its answer. This follows
the draft of the IETF, https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from ninja import Header, Schema, Status

from api.auth import user_of
from api.models import IdempotentRequest
from api.problems import ApiProblem

KEPT = timedelta(hours=24)
REPLAYED_HEADER = "Idempotency-Replayed"

IdempotencyKey = Annotated[
    str | None,
    Header(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="Random text of yours: the same request under the same key is done once, within 24 hours.",
    ),
]


def done_once(request: HttpRequest, key: str | None, act: Callable[[], Schema], *, status: int = 201) -> Status[Any]:
    """Do ``act`` and answer what it returns; a repetition under the same key is answered the same, and not done.

    What ``act`` raises is not kept: the request may be put right and sent again under its key.

    Args:
        request: its method, path and body must be those of the first request with the key.
        key: as the caller sent it; None: ``act`` is simply done.
        act: what to do, within a transaction where there is a key.
        status: of the answer.

    Raises:
        ApiProblem: 422, another request came under this key.
    """
    if key is None:
        return Status(status, act())
    user = user_of(request)
    digest = _digest(request)
    IdempotentRequest.objects.filter(user=user, created_at__lt=timezone.now() - KEPT).delete()
    with transaction.atomic():
        try:
            with transaction.atomic():
                row = IdempotentRequest.objects.create(user=user, key=key, digest=digest)
        except IntegrityError:
            return _again(request, IdempotentRequest.objects.get(user=user, key=key), digest)
        answer = act()
        row.status, row.answer = status, answer.model_dump(mode="json", by_alias=True)
        row.save(update_fields=["status", "answer"])
    return Status(status, answer)


def _again(request: HttpRequest, row: IdempotentRequest, digest: str) -> Status[Any]:
    if row.digest != digest:
        raise ApiProblem(
            422,
            "idempotency-key-reused",
            "Another request came under this Idempotency-Key. Use a new key for a new request.",
        )
    request.idempotency_replayed = True  # type: ignore[attr-defined]  # api.application sets the header
    return Status(row.status, row.answer)


def _digest(request: HttpRequest) -> str:
    head = f"{request.method} {request.get_full_path()}\0".encode()
    return hashlib.sha256(head + request.body).hexdigest()
