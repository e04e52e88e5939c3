"""Alerts are raised where a rule finds something new, and resolved where it finds it no more."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from alerts.conditions import Finding, findings
from alerts.delivery import deliver_later
from alerts.models import Alert, Delivery, Rule, Turn
from mlops_site.notices import notice_send

logger = logging.getLogger(__name__)


def rules_evaluate(now: datetime | None = None) -> None:
    """Look at every rule that is on. One that fails is logged and hurts no other."""
    for rule in Rule.objects.filter(enabled=True).select_related("project"):
        try:
            rule_evaluate(rule, now or timezone.now())
        except Exception:
            logger.exception("the rule %d (%s) could not be looked at", rule.pk, rule.kind)


def rule_evaluate(rule: Rule, now: datetime) -> None:
    """Raise what the rule finds and is not open yet, and resolve what is open and no longer found."""
    found = {finding.subject: finding for finding in findings(rule, now)}
    opened = {alert.subject: alert for alert in rule.alerts.filter(resolved_at=None)}
    for subject in found.keys() - opened.keys():
        _raise(rule, found[subject], now)
    for subject in opened.keys() - found.keys():
        _resolve(opened[subject], now)


def _raise(rule: Rule, finding: Finding, now: datetime) -> None:
    try:
        with transaction.atomic():
            alert = Alert.objects.create(
                rule=rule,
                subject=finding.subject,
                run=finding.run,
                device=finding.device,
                text=finding.text,
                raised_at=now,
            )
            _tell(alert, Turn.RAISED, "warning", finding.text)
    except IntegrityError:  # somebody else was quicker
        return


def _resolve(alert: Alert, now: datetime) -> None:
    with transaction.atomic():
        if Alert.objects.filter(pk=alert.pk, resolved_at=None).update(resolved_at=now):
            _tell(alert, Turn.RESOLVED, "success", f"Over: {alert.text}")


def _tell(alert: Alert, turn: Turn, level: str, text: str) -> None:
    """Tell open pages at once, and every channel of the rule as soon as it can be reached."""
    rule = alert.rule
    members = rule.project.memberships.values_list("user_id", flat=True)
    toast: dict[str, Any] = {"kind": "toast", "level": level, "text": text, "url": alert_url(alert)}
    notice_send(members, toast)
    for channel in rule.channels.all():
        deliver_later(Delivery.objects.create(alert=alert, channel=channel, turn=turn))


def alert_url(alert: Alert) -> str:
    """Return the path of the page of what an alert is about."""
    subject = alert.run or alert.device
    return subject.get_absolute_url() if subject is not None else ""
