"""Where hooks may lead, and what is said when they cannot."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from alerts.hooks import HookFailed, hook_post
from alerts.tests.receivers import HookReceiver


def refused(url: str) -> str:
    with pytest.raises(HookFailed) as raised:
        hook_post(url, b"{}", {})
    return str(raised.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
    ],
)
def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    assert "is not a public address" in refused(f"http://{host}:1/")


def test_an_operator_allows_networks(hook: HookReceiver) -> None:
    hook_post(hook.url, b"{}", {})
    assert [body for _, _, body in hook.received] == [b"{}"]


def test_a_redirect_is_not_followed(hook: HookReceiver) -> None:
    hook.status, hook.location = 302, "http://127.0.0.1:1/inside"
    assert refused(hook.url) == "127.0.0.1 answered 302: no such channel."
    assert len(hook.received) == 1


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("ftp://127.0.0.1/", "The URL must begin with https:// or http:// and name a host."),
        ("https:///path", "The URL must begin with https:// or http:// and name a host."),
        ("http://[::1/", "The URL is not one: Invalid IPv6 URL."),
        ("http://127.0.0.1:99999/", "The URL is not one: Port out of range 0-65535."),
        ("http://127.0.0.1:1/token", "127.0.0.1 could not be reached: [Errno 111] Connection refused."),
    ],
)
def test_what_is_wrong_is_said_without_the_secret_part(settings: Settings, url: str, sentence: str) -> None:
    settings.OUTBOUND_NETWORKS = ["127.0.0.0/8"]
    assert refused(url) == sentence


def test_a_name_that_is_not_known_is_said() -> None:
    assert refused("https://hooks.invalid/x").startswith("hooks.invalid is not known: ")


def test_an_https_hook_must_show_a_certificate(hook: HookReceiver) -> None:
    assert refused(hook.url.replace("http://", "https://")).startswith("127.0.0.1 could not be reached: ")
