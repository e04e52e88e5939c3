"""What an alert says in each kind of channel."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage

from alerts.hooks import hook_post
from alerts.models import Alert, Channel, ChannelKind, Turn

SIGNATURE_HEADER = "X-Roundtable-Signature"
SUBJECT_CHARACTERS = 150


class MailFailed(Exception):
    """An e-mail could not be sent; ``str(error)`` says why, fit for a page."""


@dataclass(frozen=True)
class Message:
    """What is told, whatever the channel.

    Args:
        turn: ``raised``, ``resolved``, or ``test``.
        title: of the project.
        text: one sentence or a few.
        url: of the page that shows more.
        facts: for programs; JSON values.
    """

    turn: str
    title: str
    text: str
    url: str
    facts: dict[str, Any]


def message_of(alert: Alert, turn: Turn) -> Message:
    """Return what is to be told of an alert."""
    project, run, device = alert.rule.project, alert.run, alert.device
    subject = run or device or project
    moment = alert.raised_at if turn == Turn.RAISED else alert.resolved_at
    facts = {
        "alert": alert.pk,
        "rule": {"id": alert.rule_id, "kind": alert.rule.kind, "text": str(alert.rule)},
        "project": {"id": project.pk, "name": project.name},
        "run": None if run is None else {"id": run.pk, "name": run.name, "state": run.state},
        "device": None if device is None else {"id": device.pk, "name": device.name},
        "time": None if moment is None else moment.timestamp(),
    }
    text = alert.text if turn == Turn.RAISED else f"Over: {alert.text}"
    return Message(turn.value, project.name, text, settings.PUBLIC_URL + subject.get_absolute_url(), facts)


def message_send(channel: Channel, message: Message) -> None:
    """Tell a channel.

    Raises:
        HookFailed: of a webhook or a Slack-compatible hook.
        MailFailed: of an e-mail.
    """
    match channel.kind:
        case ChannelKind.WEBHOOK:
            _webhook_send(channel, message)
        case ChannelKind.SLACK:
            text = f"*{_slack_text(message.title)}* {_slack_text(message.text)} <{message.url}|Open>"
            hook_post(channel.target, _json({"text": text}), {"Content-Type": "application/json"})
        case ChannelKind.EMAIL:
            _email_send(channel, message)


def signature(secret: str, body: bytes) -> str:
    """Return the value of ``X-Roundtable-Signature``: by it a receiver knows that the platform sent ``body``."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _webhook_send(channel: Channel, message: Message) -> None:
    body = _json({"turn": message.turn, "text": message.text, "url": message.url, **message.facts})
    headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature(channel.secret, body)}
    hook_post(channel.target, body, headers)


def _email_send(channel: Channel, message: Message) -> None:
    subject = " ".join(f"[{message.title}] {message.text}".split())  # a header has one line
    if len(subject) > SUBJECT_CHARACTERS:
        subject = subject[: SUBJECT_CHARACTERS - 3] + "..."
    try:
        EmailMessage(subject, f"{message.text}\n\n{message.url}\n", to=[channel.target]).send()
    except OSError as error:  # SMTP's errors are among them
        raise MailFailed(f"The mail server did not take it: {error}") from None


def _slack_text(text: str) -> str:
    """Take their meaning from the characters by which Slack marks links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
