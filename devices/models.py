"""Devices and the one-time codes by which they are bound."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone


class DeviceQuerySet(models.QuerySet["Device"]):
    def bound(self) -> DeviceQuerySet:
        return self.filter(unbound_at=None)

    def visible_to(self, user: Any) -> DeviceQuerySet:
        """The user's own devices, and those of everyone with whom the user shares a project or a group."""
        return self.filter(
            Q(owner=user)
            | Q(owner__memberships__project__memberships__user=user)
            | Q(owner__group_memberships__group__memberships__user=user)
        ).distinct()

    def of_project(self, project: Any) -> DeviceQuerySet:
        """Bound devices of the project's members: these may be chosen for its runs."""
        return self.bound().filter(owner__memberships__project=project).distinct()


class Device(models.Model):
    """A machine that trains. Its primary key is the ``edge_id``."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="devices")
    name = models.CharField(max_length=120)
    online = models.BooleanField(default=False)
    online_since = models.DateTimeField(default=timezone.now, help_text="when `online` last changed")
    boot = models.CharField(max_length=64, blank=True, help_text="random id of the agent's last start")
    last_seen_at = models.DateTimeField(null=True)
    os = models.CharField(max_length=120, blank=True)
    arch = models.CharField(max_length=40, blank=True)
    cpu = models.CharField(max_length=200, blank=True)
    cpu_count = models.PositiveIntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    gpu = models.JSONField(default=list, help_text="list of {name, memory_bytes}")
    python = models.CharField(max_length=40, blank=True)
    agent_version = models.CharField(max_length=40, blank=True)
    runtime = models.CharField(max_length=20, blank=True, help_text="how instances are opened: process, docker")
    clock_samples = models.JSONField(
        default=list,
        help_text="seconds by which its clock was ahead of ingest's, less the way: the last of its messages",
    )
    check_result = models.JSONField(null=True, help_text="the agent's last self-check")
    token_hash = models.CharField(max_length=64, help_text="sha256 of the device token's secret")
    credentials_rotated_at = models.DateTimeField(default=timezone.now)
    bound_at = models.DateTimeField(auto_now_add=True)
    unbound_at = models.DateTimeField(null=True)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("device_detail", args=[self.pk])

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which the device's clock is ahead of the platform's; None where nothing is known.

        A message takes some time on its way, which makes the clock look late by as much: of the last samples the
        greatest is the nearest to the truth.
        """
        return max(self.clock_samples, default=None)

    @property
    def gpu_names(self) -> list[str]:
        """The device's graphics processors in words, equal ones counted: ``["2 x A100"]``."""
        counts = Counter(gpu["name"] or "GPU" for gpu in self.gpu)
        return [f"{count} x {name}" if count > 1 else name for name, count in counts.items()]


class EnrolmentCode(models.Model):
    """A code that binds one device to its user's account, once, for a limited time. Only its digest is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="enrolment_codes")
    code_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, null=True, related_name="+")

    def __str__(self) -> str:
        return f"code of {self.user}"
