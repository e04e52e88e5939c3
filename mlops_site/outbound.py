"""HTTP requests to addresses that users typed in: hooks of alerts, servers that runs are exported to.

Such a request must not become a way into the network of the platform: the address is resolved once, looked at, and
that very address is connected to; redirects are not followed. Addresses that are not public are refused, but for those
in networks that the operator allows (``ROUNDTABLE_OUTBOUND_NETWORKS``).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import urllib3
from django.conf import settings
from urllib3.exceptions import HTTPError

CONNECT_SECONDS = 5
ANSWER_BYTES = 1_000_000


class OutboundFailed(Exception):
    """Nothing came back; ``str(error)`` is a sentence fit for a page, without the secret parts of the URL."""


class Answer(NamedTuple):
    """What came back, whatever the status; ``host`` is who said it."""

    host: str
    status: int
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """The beginning of the body as one line, to be shown to people."""
        return " ".join(self.body[:300].decode(errors="replace").split())


def outbound_request(
    method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, seconds: float = 10
) -> Answer:
    """Send a request and read at most a megabyte of the answer.

    Args:
        method: such as POST.
        url: http or https; a login in it is not used.
        body: what is sent.
        headers: besides Host, Content-Length and User-Agent.
        seconds: how long each read may take.

    Raises:
        OutboundFailed: it cannot be reached, or may not be.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise OutboundFailed(f"The URL is not one: {error}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise OutboundFailed("The URL must begin with https:// or http:// and name a host.")
    address = _address(host, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "Roundtable", **(headers or {})}
    pool: urllib3.HTTPConnectionPool
    if parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(address, port, server_hostname=host, assert_hostname=host)
    else:
        pool = urllib3.HTTPConnectionPool(address, port)
    try:
        answer = pool.urlopen(
            method,
            target,
            body=body,
            headers=sent,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        said = answer.read(ANSWER_BYTES)
        answer.close()
    except (HTTPError, OSError) as error:
        raise OutboundFailed(f"{host} could not be reached: {_cause(error)}.") from None
    finally:
        pool.close()
    return Answer(host, answer.status, said)


def _address(host: str, port: int) -> str:
    """Resolve ``host`` to an address that may be connected to."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise OutboundFailed(f"{host} is not known: {error.strerror or error}.") from None
    for address in found:
        if _allowed(address):
            return address
    raise OutboundFailed(
        f"{host} is not a public address ({', '.join(dict.fromkeys(found))}). An operator can allow its network "
        "with ROUNDTABLE_OUTBOUND_NETWORKS."
    )


def _allowed(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in map(ipaddress.ip_network, settings.OUTBOUND_NETWORKS)):
        return True
    return ip.is_global and not ip.is_multicast


def _cause(error: BaseException) -> str:
    """The innermost reason, without the object that urllib3 prints in front."""
    text = str(error).rpartition(": ")[2].strip(" .>)'\"")
    return text or type(error).__name__
