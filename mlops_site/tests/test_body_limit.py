"""Requests with too large bodies, on the real web server."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile

import pytest
import uvicorn
from django.core.asgi import get_asgi_application
from django.urls import reverse
from pytest_django import Settings

from mlops_site import body_limit
from mlops_site.body_limit import (
    MARGIN_BYTES,
    OTHER_MAX_BYTES,
    Application,
    BodyLimit,
    BodyLimiter,
    Receive,
    Scope,
    Send,
    upload_limits,
)

MIB = 1024 * 1024
ROOM = [BodyLimit(re.compile(r"/room"), 2 * MIB)]


class Counting:
    """Reads a body as Django does and answers how much came; tells of what it was handed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.ended: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, message = 0, await receive()
        while message["type"] == "http.request":
            self.sizes.append(len(message["body"]))
            size += len(message["body"])
            if not message["more_body"]:
                break
            message = await receive()
        self.ended.append(message["type"])
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (str(size).encode(), b" bytes"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextmanager
def served(application: Application) -> Iterator[int]:
    """Serve by uvicorn on a free port, and yield the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def behind() -> Counting:
    return Counting()


@pytest.fixture
def port(behind: Counting) -> Iterator[int]:
    with served(BodyLimiter(behind, ROOM, other_max=MIB)) as port:
        yield port


def chunks(size: int) -> Iterator[bytes]:
    """A body of unknown length, sent by chunks of 64 KiB."""
    for start in range(0, size, 65536):
        yield b"x" * min(65536, size - start)


def announce(port: int, path: str, size: int, method: str = "POST", **headers: str) -> tuple[int, str, str]:
    """Say that a body of ``size`` comes, and send none of it. Returns as ``send``."""
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        caller.request(method, path, None, {"Content-Length": str(size), **headers})
        answer = caller.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        caller.close()


def send(port: int, path: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, str, str]:
    """Return status, content type and body of the answer."""
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        caller.request("POST", path, body, headers, encode_chunked=not isinstance(body, bytes))
        answer = caller.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        caller.close()


@pytest.mark.parametrize(("path", "size"), [("/else", MIB), ("/room", 2 * MIB)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_of_the_limit_goes_through_as_it_comes(
    port: int, behind: Counting, path: str, size: int, is_chunked: bool
) -> None:
    body = chunks(size) if is_chunked else b"x" * size
    headers = {"Transfer-Encoding": "chunked"} if is_chunked else {}
    assert send(port, path, body, **headers) == (200, "", f"{size} bytes")
    assert len(behind.sizes) > 1
    assert behind.ended == ["http.request"]


def test_a_length_over_the_limit_is_refused_unread(port: int, behind: Counting) -> None:
    status, kind, body = announce(port, "/room", 2 * MIB + 1)
    assert (status, kind) == (413, "application/json")
    assert json.loads(body) == {"error": "The body of this request is larger than the 2 MiB that are allowed here."}
    assert behind.ended == []


def test_a_body_without_a_length_is_refused_at_the_first_byte_too_many(port: int, behind: Counting) -> None:
    # One byte over, so that the caller has sent everything when the answer comes.
    status, kind, body = send(port, "/else", chunks(MIB + 1), **{"Transfer-Encoding": "chunked"})
    assert (status, kind) == (413, "application/json")
    assert json.loads(body) == {"error": "The body of this request is larger than the 1 MiB that are allowed here."}
    assert behind.ended == ["http.disconnect"]
    assert sum(behind.sizes) <= MIB


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_caller_that_sends_everything_first_hears_the_refusal(port: int, behind: Counting, is_chunked: bool) -> None:
    body = chunks(20 * MIB) if is_chunked else b"x" * 20 * MIB
    headers = {"Transfer-Encoding": "chunked"} if is_chunked else {}
    status, _, answer = send(port, "/else", body, **headers)
    assert (status, "larger than the 1 MiB" in answer) == (413, True)
    assert sum(behind.sizes) <= MIB


def test_a_caller_that_never_ends_is_left_after_a_while(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "DRAIN_MAX_BYTES", 4 * MIB)
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        send(port, "/else", chunks(512 * MIB), **{"Transfer-Encoding": "chunked"})


def test_a_caller_that_sends_no_more_is_left_after_a_while(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "DRAIN_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
        caller.sendall(b"POST /else HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        answer = b""
        while part := caller.recv(65536):  # until the server closes
            answer += part
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_only_posts_have_the_room_of_a_path(port: int, behind: Counting) -> None:
    assert announce(port, "/room", MIB + 1, method="PUT")[0] == 413
    assert announce(port, "/room/more", MIB + 1)[0] == 413
    assert behind.ended == []


def test_a_browser_gets_plain_text(port: int) -> None:
    answer = announce(port, "/else", MIB + 1, Accept="text/html,*/*")
    sentence = "The body of this request is larger than the 1 MiB that are allowed here."
    assert answer == (413, "text/plain; charset=utf-8", sentence)


def test_a_program_gets_problem_details_where_the_web_api_is(port: int) -> None:
    status, kind, body = announce(port, "/api/v1/projects", MIB + 1, Accept="*/*")
    problem = json.loads(body)
    assert (status, kind, problem["status"]) == (413, "application/problem+json", 413)
    assert problem["type"] == "urn:roundtable:problem:too-large"


def test_the_uploads_and_they_alone_have_more_room_than_the_rest(settings: Settings) -> None:
    limits = {path: [limit for limit in upload_limits() if limit.path.fullmatch(path)] for path in (
        reverse("package_upload"), reverse("configuration_data_upload"), reverse("api_models", args=[7]),
        reverse("api_logs", args=[7]), "/configurations/packages/x", "/login/",
    )}  # fmt: skip
    assert [[limit.size_max for limit in found] for found in limits.values()] == [
        [settings.PACKAGE_MAX_BYTES + MARGIN_BYTES],
        [settings.DATA_MAX_BYTES + MARGIN_BYTES],
        [settings.MODEL_MAX_BYTES + MARGIN_BYTES],
        [],
        [],
        [],
    ]


def test_django_keeps_nothing_of_a_refused_body(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[SpooledTemporaryFile[bytes]] = []

    def remembered(*args: object, **kwargs: object) -> SpooledTemporaryFile[bytes]:
        opened.append(SpooledTemporaryFile(mode="w+b", max_size=1))  # noqa: SIM115
        return opened[-1]

    monkeypatch.setattr("django.core.handlers.asgi.tempfile.SpooledTemporaryFile", remembered)
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    with served(BodyLimiter(get_asgi_application(), upload_limits())) as port:
        answer = send(port, "/login/", chunks(OTHER_MAX_BYTES + 1), **{"Transfer-Encoding": "chunked"})
    assert answer[0] == 413
    assert [file.closed for file in opened] == [True]
