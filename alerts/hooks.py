"""HTTP requests to addresses that users typed in.

A hook must not become a way into the network of the platform: the address is resolved once, looked at, and that very
address is connected to; redirects are not followed. Addresses that are not public are refused, but for the networks
that the operator allows (``ROUNDTABLE_HOOK_NETWORKS``).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import urllib3
from django.conf import settings
from urllib3.exceptions import HTTPError

TIMEOUT = urllib3.Timeout(connect=5, read=10)
ANSWER_BYTES = 300  # of a refusal, shown to who made the channel


class HookFailed(Exception):
    """A hook could not be told; ``str(error)`` is a sentence fit for a page, without the URL's secret part."""


def hook_post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send ``body`` by POST.

    Args:
        url: http or https.
        body: what is sent.
        headers: besides Host, Content-Length and User-Agent.

    Raises:
        HookFailed: it cannot be reached, may not be, or does not answer with a status from 200 to 299.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise HookFailed(f"The URL is not one: {error}.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise HookFailed("The URL must begin with https:// or http:// and name a host.")
    address = _address(host, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "Roundtable", **headers}
    pool: urllib3.HTTPConnectionPool
    if parts.scheme == "https":
        pool = urllib3.HTTPSConnectionPool(address, port, server_hostname=host, assert_hostname=host)
    else:
        pool = urllib3.HTTPConnectionPool(address, port)
    try:
        answer = pool.urlopen(
            "POST",
            target,
            body=body,
            headers=sent,
            timeout=TIMEOUT,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        said = answer.read(ANSWER_BYTES, decode_content=False)
        answer.close()
    except (HTTPError, OSError) as error:
        raise HookFailed(f"{host} could not be told: {_cause(error)}.") from None
    finally:
        pool.close()
    if not 200 <= answer.status < 300:
        text = " ".join(said.decode(errors="replace").split())
        raise HookFailed(f"{host} answered {answer.status}{f': {text}' if text else ''}.")


def _address(host: str, port: int) -> str:
    """Resolve ``host`` to an address that may be connected to."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise HookFailed(f"{host} is not known: {error.strerror or error}.") from None
    for address in found:
        if _allowed(address):
            return address
    raise HookFailed(
        f"{host} is not a public address ({', '.join(dict.fromkeys(found))}). An operator can allow its network "
        "with ROUNDTABLE_HOOK_NETWORKS."
    )


def _allowed(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in map(ipaddress.ip_network, settings.HOOK_NETWORKS)):
        return True
    return ip.is_global and not ip.is_multicast


def _cause(error: BaseException) -> str:
    """The innermost reason, without the object that urllib3 prints in front."""
    text = str(error).rpartition(": ")[2].strip(" .>)'\"")
    return text or type(error).__name__
