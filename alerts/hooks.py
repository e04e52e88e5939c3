"""Requests that tell a hook of an alert."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_site.outbound import OutboundFailed, outbound_request


class HookFailed(Exception):
    """A hook could not be told; ``str(error)`` is a sentence fit for a page, without the URL's secret part."""


def hook_post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send ``body`` by POST.

    Raises:
        HookFailed: it cannot be reached, may not be, or does not answer with a status from 200 to 299.
    """
    try:
        answer = outbound_request("POST", url, body, headers)
    except OutboundFailed as error:
        raise HookFailed(str(error)) from None
    if not answer.good:
        raise HookFailed(f"{answer.host} answered {answer.status}{f': {answer.words}' if answer.words else ''}.")
