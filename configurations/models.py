"""Packages and configurations: what a run is made from."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone


class PackageKind(models.TextChoices):
    SERVER = "server", "Server package"
    CLIENT = "client", "Client package"


class PackageQuerySet(models.QuerySet["Package"]):
    def visible_to(self, user: Any) -> PackageQuerySet:
        """Packages that ``user`` uploaded, or that a configuration visible to the user is made of."""
        configurations = Configuration.objects.visible_to(user)
        return self.filter(
            Q(uploaders=user)
            | Q(pk__in=configurations.values("server_package"))
            | Q(pk__in=configurations.values("client_package"))
        ).distinct()


class Package(models.Model):
    """An uploaded ``package.zip``, named by its sha256: the same bytes are stored once.

    ``manifest`` is what was read from the archive when it came in (see ``configurations.manifest``).
    """

    sha256 = models.CharField(max_length=64)
    kind = models.CharField(max_length=10, choices=PackageKind)
    file_name = models.CharField(max_length=255)
    size = models.BigIntegerField(help_text="bytes")
    storage_name = models.CharField(max_length=255, help_text="name in the default storage")
    manifest = models.JSONField()
    uploaders = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="packages")
    created_at = models.DateTimeField(auto_now_add=True)
    uploaded_at = models.DateTimeField(default=timezone.now, help_text="when these bytes last came in")

    objects = PackageQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sha256", "kind"], name="one_package_per_content_and_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {self.sha256[:12]}"


class ConfigurationQuerySet(models.QuerySet["Configuration"]):
    def visible_to(self, user: Any) -> ConfigurationQuerySet:
        """The user's own configurations, and those shared with a project of which the user is a member."""
        return self.filter(Q(owner=user) | Q(project__memberships__user=user)).distinct()


class Configuration(models.Model):
    """A name, a server package, a client package and the values that a run is made with.

    ``model_config`` and ``hyperparameters_config`` are ordered lists of rows
    ``{"name": str, "type": "integer"|"float"|"string"|"boolean"|"list"|"null", "value": ...}``; see
    ``configurations.rows``.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="configurations")
    project = models.ForeignKey(
        "runs.Project", on_delete=models.SET_NULL, null=True, blank=True, related_name="configurations",
        help_text="members of this project see the configuration; empty: its owner alone",
    )  # fmt: skip
    name = models.CharField(max_length=120)
    server_package = models.ForeignKey(Package, on_delete=models.PROTECT, related_name="+")
    client_package = models.ForeignKey(Package, on_delete=models.PROTECT, related_name="+")
    model_config = models.JSONField(default=list)
    hyperparameters_config = models.JSONField(default=list)
    private_data_path = models.CharField(max_length=500, blank=True)
    synthetic_data_url = models.URLField(max_length=1000, blank=True)
    synthetic_data_name = models.CharField(max_length=255, blank=True, help_text="file name of the uploaded data")
    synthetic_data_sha256 = models.CharField(max_length=64, blank=True)
    synthetic_data_size = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ConfigurationQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="configuration_name_once_per_owner")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("configuration_detail", args=[self.pk])

    @property
    def packages(self) -> list[tuple[str, Package]]:
        """The two packages with their kinds, the server's first."""
        return [("server", self.server_package), ("client", self.client_package)]
