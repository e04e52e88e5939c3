"""Rules that watch a project, what they found, and where that is told."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from django.conf import settings
from django.db import models
from django.utils import timezone


class ChannelKind(models.TextChoices):
    WEBHOOK = "webhook", "Webhook"
    SLACK = "slack", "Slack-compatible hook"
    EMAIL = "email", "E-mail"


def _secret() -> str:
    return secrets.token_urlsafe(32)


class Channel(models.Model):
    """Where the alerts of a project are told: a URL or an e-mail address.

    A hook's URL lets whoever knows it write there, so that pages show its host alone. ``secret`` signs what is sent to
    a webhook.
    """

    project = models.ForeignKey("runs.Project", on_delete=models.CASCADE, related_name="channels")
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=ChannelKind)
    target = models.CharField(max_length=500, help_text="URL, or e-mail address")
    secret = models.CharField(max_length=64, default=_secret)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    told_at = models.DateTimeField(null=True, help_text="when something was last taken there")
    problem = models.TextField(blank=True, help_text="why the last attempt failed; empty: it did not")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="a_channel_name_once_per_project")]

    def __str__(self) -> str:
        return self.name

    @property
    def shown_target(self) -> str:
        """What pages show of the target: the address of an e-mail, the host of a hook."""
        return self.target if self.kind == ChannelKind.EMAIL else urlsplit(self.target).hostname or ""


class RuleKind(models.TextChoices):
    RUN_FAILED = "run_failed", "A run has failed"
    DEVICE_OFFLINE = "device_offline", "A device is offline"
    METRIC_STALLED = "metric_stalled", "A metric does not improve"
    ROUND_LATE = "round_late", "A round is late"


class Direction(models.TextChoices):
    MAX = "max", "Higher is better"
    MIN = "min", "Lower is better"


class Rule(models.Model):
    """A condition of a project's runs or devices. Which of the numbers count depends on ``kind``."""

    project = models.ForeignKey("runs.Project", on_delete=models.CASCADE, related_name="rules")
    kind = models.CharField(max_length=20, choices=RuleKind)
    minutes = models.PositiveIntegerField(null=True, help_text="offline, or without a finished round, for so long")
    metric = models.CharField(max_length=200, blank=True, help_text="name of an aggregated metric")
    direction = models.CharField(max_length=3, choices=Direction, default=Direction.MAX)
    rounds = models.PositiveIntegerField(null=True, help_text="rounds without a better value of the metric")
    channels = models.ManyToManyField(Channel, blank=True, related_name="rules")
    enabled = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["kind", "pk"]

    def __str__(self) -> str:
        match self.kind:
            case RuleKind.DEVICE_OFFLINE:
                return f"A device is offline for {_count(self.minutes, 'minute')}"
            case RuleKind.METRIC_STALLED:
                return f"{self.metric} does not improve for {_count(self.rounds, 'round')}"
            case RuleKind.ROUND_LATE:
                return f"No round ends for {_count(self.minutes, 'minute')}"
        return RuleKind(self.kind).label


class Alert(models.Model):
    """Something that a rule found. It is open for as long as the rule finds it.

    ``subject`` (``run:7``, ``device:3``) says of what, so that the same thing is told once however often it is found.
    """

    rule = models.ForeignKey(Rule, on_delete=models.CASCADE, related_name="alerts")
    subject = models.CharField(max_length=40)
    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, null=True, related_name="+")
    device = models.ForeignKey("devices.Device", on_delete=models.CASCADE, null=True, related_name="+")
    text = models.TextField()
    raised_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True, help_text="when somebody put it aside")
    seen_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["-raised_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"], condition=models.Q(resolved_at=None), name="one_open_alert_per_subject"
            )
        ]

    def __str__(self) -> str:
        return self.text


class Turn(models.TextChoices):
    """What of an alert is told."""

    RAISED = "raised", "Raised"
    RESOLVED = "resolved", "Resolved"


class DeliveryState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    TOLD = "told", "Told"
    FAILED = "failed", "Failed"


class Delivery(models.Model):
    """An alert on its way to a channel. ``due_at`` is when it is tried (again)."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    turn = models.CharField(max_length=10, choices=Turn)
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(default=timezone.now)
    told_at = models.DateTimeField(null=True)
    problem = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["alert", "channel", "turn"], name="an_alert_told_once")]
        indexes = [models.Index(fields=["state", "due_at"])]

    def __str__(self) -> str:
        return f"{self.turn} to {self.channel}"


def _count(number: int | None, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
