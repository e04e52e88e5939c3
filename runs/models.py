"""Projects, runs, and everything that a run's reporters send."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

from runs.states import InstanceStatus, RunState, StageState


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    MEMBER = "member", "Member"
    VIEWER = "viewer", "Viewer"


class ProjectQuerySet(models.QuerySet["Project"]):
    def visible_to(self, user: Any) -> ProjectQuerySet:
        return self.filter(memberships__user=user)


class Project(models.Model):
    """A team's folder of runs."""

    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    group = models.ForeignKey("groups.Group", on_delete=models.PROTECT, null=True, blank=True, related_name="projects")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    log_days = models.PositiveIntegerField(null=True, blank=True, help_text="days after a run's end; empty: for good")
    point_days = models.PositiveIntegerField(null=True, blank=True, help_text="days after a run's end; empty: for good")
    client_model_days = models.PositiveIntegerField(
        null=True, blank=True, help_text="days after a run's end; empty: for good"
    )

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("project_detail", args=[self.pk])

    def role_of(self, user: Any) -> Role | None:
        """The role of ``user`` in this project, or None for a stranger."""
        membership = self.memberships.filter(user=user).first()
        return Role(membership.role) if membership else None


class Membership(models.Model):
    """A user's role in a project: viewers see, members also create, start and stop runs, owners also manage members.

    ``role`` alone says what the user may do. Where the project belongs to a group it is the greater of the role that
    was given by name and the one that the group gives; ``runs.group_access`` writes all three.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    group_role = models.CharField(
        max_length=10, choices=Role, blank=True, help_text="what the project's group gives; empty: nothing"
    )
    own_role = models.CharField(
        max_length=10, choices=Role, blank=True, help_text="beside a group's role, the one given by name; empty: none"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_membership_per_user_and_project")]

    def __str__(self) -> str:
        return f"{self.user} in {self.project}"

    @property
    def role_by_name(self) -> str:
        """The role given by name, which stays without the group; empty for none."""
        return self.own_role if self.group_role else self.role


class ChartView(models.Model):
    """How a user last had the charts of a project's runs: what differs from the usual, by the names of the address."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="chart_views")
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="chart_views")
    kind = models.CharField(max_length=10, help_text="metric, system")
    content = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project", "kind"], name="one_chart_view_per_user_project_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} charts of {self.user} in {self.project}"


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: Any) -> RunQuerySet:
        return self.filter(project__memberships__user=user)

    def active(self) -> RunQuerySet:
        return self.filter(state__in=RunState.active())


class RunManager(models.Manager["Run"]):
    """Runs without those that were deleted and of which something is still being removed."""

    def get_queryset(self) -> RunQuerySet:
        return RunQuerySet(self.model, using=self._db).filter(deleted_at=None)

    def visible_to(self, user: Any) -> RunQuerySet:
        return self.get_queryset().visible_to(user)

    def active(self) -> RunQuerySet:
        return self.get_queryset().active()


class Run(models.Model):
    """One federated-learning flow. Its states are written by ``runs.lifecycle`` alone.

    ``configuration_copy`` is frozen when the run is created:
    ``{"name", "model_config": [rows], "hyperparameters_config": [rows], "private_data_path", "synthetic_data_url",
    "synthetic_data_sha256", "server": manifest, "client": manifest, "overrides": [names of the rows changed]}``.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="runs")
    name = models.CharField(max_length=120)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    configuration = models.ForeignKey(
        "configurations.Configuration", on_delete=models.SET_NULL, null=True, related_name="runs"
    )
    configuration_copy = models.JSONField()
    server_package = models.ForeignKey("configurations.Package", on_delete=models.PROTECT, related_name="+")
    client_package = models.ForeignKey("configurations.Package", on_delete=models.PROTECT, related_name="+")
    parent = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, related_name="children", help_text="the run that it repeats"
    )
    initial_model = models.ForeignKey(
        "StoredModel", on_delete=models.SET_NULL, null=True, related_name="+", help_text="of another run: its source"
    )
    initial_key = models.CharField(
        max_length=100, blank=True, help_text="key of this run's copy of it, from which the aggregator starts"
    )
    backend = models.CharField(max_length=20, help_text="process, docker or swarm")
    backend_reason = models.TextField(blank=True, help_text="why this backend, in sentences")
    limits = models.JSONField(
        default=dict,
        help_text="{server: {memory_mb, cpus, pids}, client: {...}, placement: [...], reservations: {memory_mb, cpus}}",
    )

    state = models.CharField(max_length=12, choices=RunState, default=RunState.CREATED, db_index=True)
    state_since = models.DateTimeField(default=timezone.now)
    reason = models.TextField(blank=True, help_text="why the run is in this state, as a sentence")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    round_index = models.IntegerField(default=-1, help_text="last finished round, 0-based; -1: none yet")
    total_rounds = models.IntegerField(default=0)
    running_time = models.FloatField(default=0.0, help_text="seconds since the first round began")
    best_metric = models.JSONField(null=True, help_text="{name, value, round} of the best aggregated result")

    aggregator_status = models.CharField(max_length=14, choices=InstanceStatus, default=InstanceStatus.IDLE)
    aggregator_reason = models.TextField(blank=True)
    aggregator_since = models.DateTimeField(default=timezone.now)
    aggregator_handle = models.JSONField(null=True, help_text="how the backend finds the aggregator again")
    aggregator_token_hash = models.CharField(max_length=64, blank=True)
    attempt_id = models.CharField(
        max_length=32, blank=True, help_text="random, new at each start and retry: tokens and commands are made of it"
    )

    stop_sent_at = models.DateTimeField(null=True, help_text="when what works for the run was last told to stop")
    cleaned_at = models.DateTimeField(null=True, help_text="when what an ended run leaves behind was removed")
    packed_at = models.DateTimeField(null=True, help_text="when the last points of an ended run were put into blocks")
    frame_number = models.BigIntegerField(default=0, help_text="last live frame of this run; see runs.live.broadcast")
    archived_at = models.DateTimeField(null=True, help_text="since when lists leave it out unless they are asked")
    deleted_at = models.DateTimeField(null=True, help_text="when it was deleted; what it holds goes in the background")

    objects = RunManager()
    with_deleted = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["project", "-created_at"]),
            models.Index(fields=["id"], condition=models.Q(packed_at=None), name="runs_not_packed_yet"),
            models.Index(fields=["id"], condition=models.Q(deleted_at__isnull=False), name="runs_deleted"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("run_detail", args=[self.pk])


class RunDevice(models.Model):
    """A device's part in a run. ``edge_id`` is the device's primary key, kept apart so that it outlives the device."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="run_devices")
    device = models.ForeignKey("devices.Device", on_delete=models.SET_NULL, null=True, related_name="run_devices")
    edge_id = models.BigIntegerField()
    client_index = models.PositiveIntegerField(help_text="1..n, in the order of the edge ids")
    status = models.CharField(max_length=14, choices=InstanceStatus, default=InstanceStatus.IDLE)
    since = models.DateTimeField(default=timezone.now)
    reason = models.TextField(blank=True)
    phase = models.CharField(max_length=20, blank=True)
    progress = models.FloatField(null=True)
    exit_code = models.IntegerField(null=True)
    command_sent_at = models.DateTimeField(null=True)
    first_report_at = models.DateTimeField(null=True)
    phase_times = models.JSONField(
        default=dict, help_text="{phase: when it was first heard of, progress: when that last changed}, seconds, UTC"
    )
    alive_at = models.DateTimeField(null=True, help_text="when the instance itself was first heard of")
    clock_offset = models.FloatField(null=True, help_text="seconds by which the device's clock was ahead in this run")
    token_hash = models.CharField(max_length=64, blank=True)
    missing_since = models.DateTimeField(null=True, help_text="since when the device lists the run no more")
    holds_device = models.BooleanField(default=False, help_text="the device works, or is about to, for this run")

    class Meta:
        ordering = ["client_index"]
        constraints = [
            models.UniqueConstraint(fields=["run", "edge_id"], name="a_device_once_per_run"),
            models.UniqueConstraint(
                fields=["edge_id"], condition=models.Q(holds_device=True), name="a_device_in_one_run_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"device {self.edge_id} in run {self.run_id}"


class StageName(models.TextChoices):
    BUILD_SERVER = "build_server", "Build server image"
    PUSH_SERVER = "push_server", "Push server image"
    BUILD_CLIENT = "build_client", "Build client image"
    PUSH_CLIENT = "push_client", "Push client image"
    LAUNCH = "launch", "Launch aggregator"
    DISPATCH = "dispatch", "Send to devices"


class Stage(models.Model):
    """One step of a run's pipeline. Claimed by a conditional UPDATE; kept alive by a heartbeat."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=20, choices=StageName)
    state = models.CharField(max_length=10, choices=StageState, default=StageState.PENDING)
    reason = models.TextField(blank=True)
    progress = models.FloatField(null=True, help_text="0..1, where it is known")
    attempt = models.PositiveSmallIntegerField(default=0)
    claim = models.CharField(max_length=64, blank=True, help_text="who works on it: random id of the claim")
    sent_at = models.DateTimeField(null=True, help_text="when the stage was last put on the task queue")
    heartbeat_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    result = models.JSONField(default=dict, help_text="what later stages need: image, digest, path")

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="a_stage_once_per_run")]

    def __str__(self) -> str:
        return f"{self.name} of run {self.run_id}"


class Series(models.Model):
    """One named metric of one reporter in a run, with its latest value."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="series")
    edge_id = models.BigIntegerField(help_text="0: the aggregator")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=10, default="metric", help_text="metric, system")
    count = models.BigIntegerField(default=0)
    packed = models.BigIntegerField(default=0, help_text="how many of the points are in blocks")
    last_step = models.FloatField(null=True)
    last_time = models.FloatField(null=True)
    last_value = models.FloatField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "edge_id", "kind", "name"], name="a_series_once_per_run")]

    def __str__(self) -> str:
        return f"{self.name} of edge {self.edge_id}"


class ValueFlag(models.IntegerChoices):
    """What a point's value is where a float column cannot hold it."""

    FINITE = 0
    NAN = 1
    POSITIVE_INFINITY = 2
    NEGATIVE_INFINITY = 3


class Point(models.Model):
    """One value of a series that is not in a ``PointBlock`` yet.

    Written in bulk by the ingest worker; replays are kept out by ``Receipt``. A point is either a row here or in a
    block, never both: who wants the points of a series reads them by ``runs.telemetry.reading``.
    """

    series = models.ForeignKey(Series, on_delete=models.CASCADE, related_name="points", db_index=False)
    step = models.FloatField()
    round = models.IntegerField(null=True)
    time = models.FloatField(help_text="seconds since the epoch")
    value = models.FloatField(null=True)
    flag = models.SmallIntegerField(choices=ValueFlag, default=ValueFlag.FINITE)

    class Meta:
        indexes = [models.Index(fields=["series", "step", "id"])]

    def __str__(self) -> str:
        return f"{self.series_id}@{self.step}"


class PointBlock(models.Model):
    """Points of a series that are stored together, in the order of their arrival, and never change.

    A block is a sequence of chunks of 1,024 points. ``data`` holds every point; ``extremes_N`` those that are the least
    or the greatest of ``N`` consecutive ones, so that a chart of many points reads few; ``directory`` says where each
    chunk is and which steps, rounds and times it spans. ``runs.telemetry.packing`` moves points from ``Point`` to here.
    """

    series = models.ForeignKey(Series, on_delete=models.CASCADE, related_name="blocks", db_index=False)
    position = models.BigIntegerField(help_text="how many points of the series were put into blocks before these")
    count = models.IntegerField()
    step_low = models.FloatField()
    step_high = models.FloatField()
    round_low = models.FloatField(null=True, help_text="empty where no point has a round")
    round_high = models.FloatField(null=True)
    time_low = models.FloatField()
    time_high = models.FloatField()
    directory = models.BinaryField()
    extremes_16 = models.BinaryField()
    extremes_64 = models.BinaryField()
    extremes_256 = models.BinaryField()
    extremes_1024 = models.BinaryField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "position"], name="a_block_once_per_series")]

    def __str__(self) -> str:
        return f"{self.count} points of series {self.series_id}"


class Receipt(models.Model):
    """A telemetry message that was stored. The same (run, edge, instance, seq) again is a replay: nothing changes."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    edge_id = models.BigIntegerField()
    instance = models.CharField(max_length=64)
    seq = models.BigIntegerField()
    topic = models.CharField(max_length=10)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "edge_id", "instance", "topic", "seq"], name="a_message_once")
        ]

    def __str__(self) -> str:
        return f"{self.instance}/{self.seq}"


class Round(models.Model):
    """A finished round, as the aggregator reported it."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="rounds")
    round_index = models.IntegerField()
    total_rounds = models.IntegerField()
    running_time = models.FloatField()
    reported_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["round_index"]
        constraints = [models.UniqueConstraint(fields=["run", "round_index"], name="a_round_once_per_run")]

    def __str__(self) -> str:
        return f"round {self.round_index} of run {self.run_id}"


class Event(models.Model):
    """A span of work of one reporter: train, upload, wait, aggregate. Start and end may arrive in any order."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    edge_id = models.BigIntegerField()
    name = models.CharField(max_length=100)
    value = models.CharField(max_length=100, blank=True)
    started_time = models.FloatField(null=True)
    ended_time = models.FloatField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "edge_id", "name", "value"], name="an_event_once_per_run")
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.value} of edge {self.edge_id}"


class ModelKind(models.TextChoices):
    AGGREGATED = "aggregated", "Aggregated model"
    CLIENT = "client", "Client model"


class StoredModel(models.Model):
    """Weights of one round: aggregated (edge 0), or one client's."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="models")
    edge_id = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=ModelKind)
    round_index = models.IntegerField()
    key = models.CharField(max_length=100, help_text="name in the model store's HTTP interface")
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField(help_text="bytes")
    storage_name = models.CharField(max_length=255)
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-round_index", "edge_id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "key"], name="a_model_key_once_per_run"),
            models.UniqueConstraint(
                fields=["run", "edge_id", "kind", "round_index", "sha256"], name="a_model_once_per_round"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} model of round {self.round_index}"


class LogLine(models.Model):
    """One line that a reporter wrote.

    ``reporter`` is ``stage:<name>``, ``server`` or ``edge:<id>``. Searched by ``runs.log_search``. On SQLite the table
    has triggers that keep the index of its text: a migration that makes the table anew has to make them anew too.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_lines", db_index=False)
    reporter = models.CharField(max_length=40)
    time = models.FloatField()
    stream = models.CharField(max_length=8)
    level = models.CharField(max_length=8, blank=True, help_text="read from the line, where it has one")
    line = models.TextField()

    class Meta:
        indexes = [
            models.Index(fields=["run", "reporter", "id"]),
            models.Index(fields=["run", "id"]),
            models.Index(fields=["run", "level", "id"], name="log_lines_by_level"),
            models.Index(fields=["run", "time", "id"], name="log_lines_by_time"),
        ]

    def __str__(self) -> str:
        return self.line[:80]
