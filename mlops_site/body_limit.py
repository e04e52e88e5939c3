"""Refuses request bodies that are too large before Django sees them.

Under ASGI Django writes a whole body to disk before it looks at the path, the session or a token
(``ASGIHandler.read_body``), so that a view's own limit comes too late to keep a stranger from filling the disk. Here
each path has its limit; views still check theirs, which are exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from re import Pattern
from typing import Any, NamedTuple

from django.conf import settings

# As Django's own handler has them (django-stubs): asgiref's stricter types do not fit it.
Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

MIB = 1024 * 1024
OTHER_MAX_BYTES = 10 * MIB
WEB_API = "/api/v1/"  # its errors have a shape of their own (api.problems)
# What is still read, and thrown away, of a body that was refused; see ``_rest_drop``.
DRAIN_MAX_BYTES = 64 * MIB
DRAIN_SECONDS = 30.0
MARGIN_BYTES = 2 * MIB  # for what stands around a file in a form; more than the views allow, whose answer says more


class BodyLimit(NamedTuple):
    """The most bytes that the body of a POST to a path may have."""

    path: Pattern[str]
    size_max: int


def upload_limits() -> list[BodyLimit]:
    """Return the limits of the paths that take more than other requests, from the settings."""
    return [
        BodyLimit(re.compile(r"/configurations/packages/"), settings.PACKAGE_MAX_BYTES + MARGIN_BYTES),
        BodyLimit(re.compile(r"/configurations/data/"), settings.DATA_MAX_BYTES + MARGIN_BYTES),
        BodyLimit(re.compile(r"/api/v1/packages"), settings.PACKAGE_MAX_BYTES + MARGIN_BYTES),
        BodyLimit(re.compile(r"/api/v1/data"), settings.DATA_MAX_BYTES + MARGIN_BYTES),
        BodyLimit(re.compile(r"/api/runs/[0-9]+/models"), settings.MODEL_MAX_BYTES + MARGIN_BYTES),
    ]


class BodyLimiter:
    """An ASGI application that answers 413 where a body is too large, and hands everything else on as it comes.

    1. A body whose ``Content-Length`` is over the limit is refused before it is read.
    2. Otherwise what arrives is counted. At the first byte over the limit the application is told that the caller has
       gone, so that it drops what it has, and the caller gets the refusal.
    3. After a refusal some of the rest is read and thrown away, so that the caller hears it.

    Nothing is kept here: at most one message of the server is in memory.

    Args:
        application: the application behind.
        limits: the paths that may take more, the first that matches counting.
        other_max: the limit of all other requests, in bytes.
    """

    def __init__(self, application: Application, limits: Sequence[BodyLimit], other_max: int = OTHER_MAX_BYTES) -> None:
        self._application = application
        self._limits = limits
        self._other_max = other_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        size_max = self._size_max(scope)
        if _content_length(scope) > size_max:
            await _refuse(scope, receive, send, size_max)
            return
        received = 0
        is_refused = is_answered = False

        async def receive_counted() -> Message:
            nonlocal received, is_refused
            if is_refused:
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > size_max:
                    is_refused = True
                    return {"type": "http.disconnect"}
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal is_answered
            if is_refused and not is_answered:
                return
            is_answered = True
            await send(message)

        await self._application(scope, receive_counted, send_unless_refused)
        if is_refused and not is_answered:
            await _refuse(scope, receive, send, size_max)

    def _size_max(self, scope: Scope) -> int:
        for limit in self._limits:
            if scope["method"] == "POST" and limit.path.fullmatch(scope["path"]):
                return limit.size_max
        return self._other_max


def _content_length(scope: Scope) -> int:
    """Return what the caller says; 0 where it says nothing or nonsense, which the count does not rely on."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and len(value) <= 20:
            return int(value)
    return 0


async def _refuse(scope: Scope, receive: Receive, send: Send, size_max: int) -> None:
    sentence = f"The body of this request is larger than the {size_max // MIB} MiB that are allowed here."
    logger.warning("refused a body of more than %d bytes for %s", size_max, ascii(scope["path"][:200]))
    wants_page = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
    kind = b"text/plain; charset=utf-8" if wants_page else b"application/json"
    body = (sentence if wants_page else json.dumps({"error": sentence})).encode()
    if scope["path"].startswith(WEB_API):
        details = {"type": "urn:roundtable:problem:too-large", "title": "Request Entity Too Large", "status": 413}
        kind, body = b"application/problem+json", json.dumps({**details, "detail": sentence, "errors": []}).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 413,
            "headers": [
                (b"content-type", kind),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"connection", b"close"),  # the rest of the body is not waited for
            ],
        }
    )
    # The answer is complete by its length; the connection is closed by what ends it.
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if not any(name == b"expect" for name, _ in scope["headers"]):  # such a caller sends nothing after a refusal
        await _rest_drop(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _rest_drop(receive: Receive) -> None:
    """Read what still comes of a body and throw it away: up to its end, the caller's good-bye, or a bound.

    A connection that is closed while its caller still sends is reset, and the reset overtakes the answer: a proxy then
    says 502, and a browser that the connection was lost. nginx calls the remedy a lingering close.
    """
    dropped = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while dropped < DRAIN_MAX_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
