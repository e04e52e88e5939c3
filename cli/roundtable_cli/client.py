"""Calls of the Web API: errors as sentences, retries where they are safe, files piece by piece."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from roundtable_cli import __version__
from roundtable_cli.credentials import Credentials
from roundtable_cli.errors import CliError, Exit

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
RETRIES = 3
PIECE_BYTES = 256 * 1024
_EXITS = {401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.NOT_FOUND, 503: Exit.UNREACHABLE}

_open: list[httpx.Client] = []

Progress = Callable[[int], None]  # bytes that went since the last call


class Client:
    """The API of one platform, with one token."""

    def __init__(self, credentials: Credentials) -> None:
        self.url = credentials.url
        self._http = httpx.Client(
            base_url=f"{credentials.url}/api/v1",
            headers={"Authorization": f"Bearer {credentials.token}", "User-Agent": f"roundtable-cli/{__version__}"},
            timeout=TIMEOUT,
        )
        _open.append(self._http)

    def get(self, path: str, **query: Any) -> Any:
        """Return what there is at ``path``. Tried again where the connection breaks."""
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return self._json(lambda: self._http.get(path, params=given), again=True)

    def items(self, path: str, limit: int | None = None, **query: Any) -> list[Any]:
        """Return the rows of a list, page by page; all of them, or the first ``limit``."""
        rows: list[Any] = []
        page = 1
        while True:
            answer = self.get(path, **query, page=page, page_size=200 if limit is None else min(limit, 200))
            rows += answer["items"]
            if not answer["items"] or len(rows) >= (answer["total"] if limit is None else min(limit, answer["total"])):
                return rows if limit is None else rows[:limit]
            page += 1

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Change something. Not tried again: who knows whether it was done."""
        return self._json(lambda: self._http.request(method, path, json=body), again=False)

    def create(self, path: str, body: Any) -> Any:
        """Create something once, however often the connection breaks: each try carries the same key."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._json(lambda: self._http.post(path, json=body, headers=headers), again=True)

    def upload(self, path: str, file: Path, progress: Progress, **query: Any) -> Any:
        """Send a file as the body. The platform names it by its content, so that a second try does no harm."""

        def pieces(source: BinaryIO) -> Iterator[bytes]:
            while piece := source.read(PIECE_BYTES):
                yield piece
                progress(len(piece))

        def call() -> httpx.Response:
            with file.open("rb") as source:
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}
                return self._http.post(path, params=query, content=pieces(source), headers=headers)

        return self._json(call, again=False)

    @contextmanager
    def stream(self, path: str, **query: Any) -> Iterator[httpx.Response]:
        """Open an answer that is read piece by piece."""
        with _understood(), self._http.stream("GET", path, params=query) as response:
            if response.is_error:
                response.read()
                raise _error(response)
            yield response

    def _json(self, call: Callable[[], httpx.Response], *, again: bool) -> Any:
        for wait in [0.5 * 2**number for number in range(RETRIES)] if again else []:
            try:
                response = call()
            except httpx.TransportError:
                time.sleep(wait)
                continue
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return _answer(response)
            time.sleep(wait)
        with _understood():
            return _answer(call())


def clients_close() -> None:
    """Close the connections of every client."""
    while _open:
        _open.pop().close()


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise CliError(
            f"The platform cannot be reached ({reason}). Check the address and that it runs.", Exit.UNREACHABLE
        ) from error
    except httpx.InvalidURL as error:
        raise CliError(f"The platform's address is not a URL: {error}", Exit.USAGE) from error


def _answer(response: httpx.Response) -> Any:
    if response.is_error:
        raise _error(response)
    if response.is_redirect:
        raise CliError(f"The platform moved to {response.headers.get('Location')}. Log in there.", Exit.UNREACHABLE)
    try:
        return response.json() if response.content else None
    except ValueError:
        raise CliError("What answers there is no Roundtable. Check the address.", Exit.UNREACHABLE) from None


def _error(response: httpx.Response) -> CliError:
    fallback = Exit.REFUSED if 400 <= response.status_code < 500 else Exit.UNEXPECTED
    exit_code = _EXITS.get(response.status_code, fallback)
    try:
        problem: Mapping[str, Any] = response.json()
        sentence = str(problem["detail"])
        lines = [f"  {each['field']}: {each['message']}" for each in problem.get("errors", [])]
    except (ValueError, KeyError, TypeError):
        return CliError(
            f"The platform answered {response.status_code} {response.reason_phrase} without saying why.", exit_code
        )
    return CliError("\n".join([sentence, *(lines if len(lines) > 1 else [])]), exit_code)
