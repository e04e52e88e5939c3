"""The platform's HTTP calls that an agent makes (docs/protocol.md, section 2)."""

import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from . import __version__
from .fields import Invalid

TIMEOUT_SECONDS = 30
MAX_ANSWER_BYTES = 1 << 20


class Unreachable(Exception):
    """The platform did not answer; the message says what was tried and what happened."""


class Refused(Exception):
    """The platform answered with an error.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def server_url(text: str) -> str:
    """Bring a server's URL into its one form.

    Raises:
        Invalid: it is not one.
    """
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment or parts.username or re.search(r"\s", url):
        raise Invalid(f"--server must be the platform's address, such as https://fl.example.org; got {text!r}")
    return url


def absolute_url(server: str, url: str) -> str:
    """Complete a URL that the platform named.

    Raises:
        Invalid: it leads away from the platform, where our token has no business.
    """
    full = urljoin(server + "/", url)
    there, here = urlsplit(full), urlsplit(server)
    if (there.scheme, there.netloc) != (here.scheme, here.netloc):
        raise Invalid(f"the URL {url[:200]!r} leads away from the platform at {server}")
    return full


def get_json(server: str, path: str) -> Any:
    """GET without a token; errors as `open_url`."""
    with open_url(server + path) as answer:
        return _parse(answer)


def post_json(server: str, path: str, body: dict[str, Any], *, token: str = "") -> Any:
    """POST JSON and read JSON; errors as `open_url`."""
    with open_url(server + path, body=body, token=token) as answer:
        return _parse(answer)


@contextlib.contextmanager
def open_url(url: str, *, body: dict[str, Any] | None = None, token: str = "") -> Iterator[IO[bytes]]:
    """Open a URL of the platform; follows no redirect, so that a token goes nowhere else.

    Raises:
        Unreachable: no answer, or it broke off.
        Refused: an HTTP error, with the platform's own sentence where it gave one.
    """
    headers = {"User-Agent": f"roundtable-agent/{__version__}", "Accept": "*/*"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - http and https alone reach here
    try:
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(error.code, _sentence(error, url)) from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Unreachable(f"cannot reach {url}: {reason or type(error).__name__}") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect())


def _parse(answer: IO[bytes]) -> Any:
    raw = answer.read(MAX_ANSWER_BYTES + 1)
    try:
        if len(raw) > MAX_ANSWER_BYTES:
            raise ValueError
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(200, "the answer is not of a Roundtable platform: is the address right?") from None


def _sentence(error: urllib.error.HTTPError, url: str) -> str:
    if 300 <= error.code < 400:
        return f"{url} redirects to {error.headers.get('Location', 'elsewhere')}: give that address with --server"
    with contextlib.suppress(OSError, ValueError, RecursionError, http.client.HTTPException):
        value = json.loads(error.read(MAX_ANSWER_BYTES))
        if isinstance(value, dict) and isinstance(value.get("error"), str) and value["error"]:
            return str(value["error"])[:500]
    return f"{url} answered with HTTP status {error.code}"
