"""What the backends with a container engine have in common: images, and aggregators in containers under supervisors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from configurations.models import Package, PackageKind
from runs.models import Run
from runs.pipeline.backends.engine import EngineClient, EngineFacts, engine_client, engine_look, image_inspect
from runs.pipeline.backends.image_cache import images_trim, images_trim_due
from runs.pipeline.backends.images import ImagePlan, image_build, image_lock, image_plan
from runs.pipeline.backends.interface import (
    AggregatorSpec,
    FoundAggregator,
    Handle,
    InstanceState,
    StageContext,
    StageFailed,
    StageResult,
    StageTransient,
)
from runs.pipeline.backends.registry import image_push, pull_login, registry_digest
from runs.pipeline.supervisors import Supervisors, write_json
from runs.states import RunState

logger = logging.getLogger(__name__)

SHORT = 12  # characters of a digest that people are shown
LEFT_SECONDS = 60


@dataclass(frozen=True)
class FoundInstance:
    """A container or service of an aggregator.

    Attributes:
        id: the engine's.
        name: what people know it by.
        run_id, attempt: what it works for, by its labels.
    """

    id: str
    name: str
    run_id: int
    attempt: str
    runs: bool


def label_filter(run_id: int | None, labels: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the filter by which the engine lists this installation's aggregators."""
    wanted = {"roundtable.platform": settings.PLATFORM_ID, "roundtable.edge": "0", **labels}
    if run_id is not None:
        wanted["roundtable.run"] = str(run_id)
    return {"label": [f"{name}={value}" for name, value in wanted.items()]}


def labels_read(labels: Mapping[str, str]) -> tuple[int, str]:
    """Return the run and the attempt that labels name; run 0 where they name none."""
    run_id = labels.get("roundtable.run", "")
    return (int(run_id) if run_id.isdecimal() else 0), labels.get("roundtable.attempt", "")


class ContainerBackend:
    """Builds images with the engine at hand, publishes them in the registry, and runs aggregators from them.

    A subclass says what an aggregator runs as: it has the names, and how its instances are listed, ended and removed.
    """

    name: str
    label: str

    def __init__(self) -> None:
        self.supervisors = Supervisors(self.name, instance_runs=self._instance_runs, instance_stop=self._instance_stop)

    def available(self) -> tuple[bool, str]:
        if not settings.REGISTRY:
            return False, "No registry is configured (ROUNDTABLE_REGISTRY)."
        try:
            engine = engine_look()
        except (StageFailed, StageTransient) as error:
            return False, str(error)
        return self._available(engine)

    def recommended(self) -> tuple[bool, str]:
        return self.available()

    def build(self, context: StageContext, kind: PackageKind) -> StageResult:
        with engine_client() as client:
            plan = image_plan(client, _package(context.run, kind), kind)
            data = {"repository": plan.repository, "tag": plan.tag, "main": bool(plan.package.manifest.get("has_main"))}
            with image_lock(context, plan):
                digest = self._published(context, client, plan)
                if digest:
                    return StageResult(
                        data, f"unchanged: the registry has it as {digest_short(plan.repository, digest)}"
                    )
                if image_inspect(client, plan.reference) is not None:
                    return StageResult(data, f"unchanged: the engine has it as {plan.repository}:{plan.tag[:SHORT]}")
                image_build(context, client, plan)
                context.log(f"Built {plan.reference}")
        return StageResult(data, note=f"{plan.repository}:{plan.tag[:SHORT]}")

    def push(self, context: StageContext, kind: PackageKind, built: Mapping[str, Any]) -> StageResult:
        with engine_client() as client:
            plan = image_plan(client, _package(context.run, kind), kind)
            with image_lock(context, plan):
                digest = registry_digest(client, plan.reference)
                unchanged = "" if digest is None else f"unchanged: {digest_short(plan.repository, digest)}"
                if digest is None:
                    if image_inspect(client, plan.reference) is None:
                        context.log("The image is not on this worker's engine: another one built it. Building it here.")
                        image_build(context, client, plan)
                    digest = image_push(context, client, plan.repository, plan.tag)
        data = {"reference": f"{plan.repository}@{digest}", "digest": digest}
        return StageResult(data, unchanged, note=digest_short(plan.repository, digest))

    def client_image(self, built: Mapping[str, Any], pushed: Mapping[str, Any]) -> dict[str, Any] | None:
        login = pull_login()
        return {
            "reference": str(pushed["reference"]),
            "main": bool(built["main"]),
            "login": login.as_json() if login is not None else None,
        }

    def launch(
        self, context: StageContext, built: Mapping[str, Any], pushed: Mapping[str, Any], spec: AggregatorSpec
    ) -> Handle:
        def container(home: Path) -> dict[str, Any]:
            login = pull_login()
            if login is not None:
                write_json(home / "registry.json", login.as_json())
            return {
                "runtime": self.name,
                "mqtt": {  # as instances reach the broker from wherever they run
                    "host": settings.MQTT_PUBLIC_HOST,
                    "port": settings.MQTT_PUBLIC_PORT,
                    "tls": settings.MQTT_PUBLIC_TLS,
                    "username": spec.mqtt_username,
                    "password": spec.mqtt_password,
                },
                "image": {"reference": str(pushed["reference"]), "main": bool(built["main"])},
                "engine": settings.DOCKER_HOST,
                "network": settings.INSTANCE_NETWORK,
                "registry_auth_file": str((home / "registry.json").resolve()) if login is not None else None,
                "labels": {"roundtable.platform": settings.PLATFORM_ID, "roundtable.attempt": spec.attempt_id[:SHORT]},
                "placement": list(spec.placement),
                "reservations": dict(spec.reservations),
            }

        handle = self.supervisors.prepare(context, spec, container)
        self.watch(handle)
        context.log(f"The aggregator's supervisor runs, and opens {pushed['reference']}.")
        return handle

    def aggregator_find(self, run: Run) -> Handle | None:
        return self.supervisors.find(run)

    def watch(self, handle: Handle) -> None:
        self.supervisors.watch(handle)

    def aggregator_state(self, handle: Handle) -> InstanceState:
        return self.supervisors.state(handle)

    def stop_aggregator(self, handle: Handle) -> None:
        self.supervisors.stop(handle)

    def aggregators_find(self) -> list[FoundAggregator]:
        return self.supervisors.found()

    def clean(self, run: Run) -> None:
        with engine_client() as client:
            for found in self._instances(client, run.pk):
                self._remove(client, found)
            self._leftovers_remove(client, run.pk)
        self.supervisors.clean(run.pk)

    def tidy(self) -> None:
        if not settings.REGISTRY:
            return  # none of this installation's images and containers can be here
        with engine_client() as client:
            for found in self._instances(client, None):
                if is_left(found):
                    logger.warning("%s belongs to no run under way; it is removed", found.name)
                    self._remove(client, found)
            self._leftovers_remove(client, None)
            if images_trim_due():
                images_trim(client)

    def _available(self, engine: EngineFacts) -> tuple[bool, str]:
        raise NotImplementedError

    def _instances(self, client: EngineClient, run_id: int | None, **labels: str) -> list[FoundInstance]:
        """Return the aggregators' containers or services, running or not: of one run, or all of this installation."""
        raise NotImplementedError

    def _stop(self, client: EngineClient, found: FoundInstance) -> None:
        """End one that may run, and return when it has ended."""
        raise NotImplementedError

    def _remove(self, client: EngineClient, found: FoundInstance) -> None:
        """Remove one, also if it runs."""
        raise NotImplementedError

    def _leftovers_remove(self, client: EngineClient, run_id: int | None) -> None:
        """Remove what may stay of aggregators beyond ``_instances``: of one run, or all of this installation."""

    def _instance_runs(self, home: Path) -> bool:
        try:
            with engine_client() as client:
                return any(
                    found.runs for found in self._instances(client, None, **{"roundtable.home": home_label(home)})
                )
        except StageTransient:
            return True  # nobody can tell now; the next look may

    def _instance_stop(self, home: Path) -> None:
        with engine_client() as client:
            for found in self._instances(client, None, **{"roundtable.home": home_label(home)}):
                self._stop(client, found)

    def _published(self, context: StageContext, client: EngineClient, plan: ImagePlan) -> str | None:
        """Return the image's digest in the registry. One that is away is asked again when the image is pushed."""
        try:
            return registry_digest(client, plan.reference)
        except StageTransient as error:
            context.log(f"{error} Building first.", "stderr")
            return None


def digest_short(repository: str, digest: str) -> str:
    """Return an image's name as people are shown it."""
    return f"{repository}@{digest[: len('sha256:') + SHORT]}"


def home_label(home: Path) -> str:
    """Return ``roundtable.home`` of what runs for a home: the agent's runtimes label containers and services by it."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]


def is_left(found: FoundInstance) -> bool:
    """Whether nothing needs a container any more: its run is gone, or ended a while ago, or has another attempt."""
    run = Run.with_deleted.filter(pk=found.run_id).first()
    if run is None:
        return True
    if run.state in RunState.ended():
        grace = timedelta(seconds=settings.TELEMETRY_GRACE_SECONDS + LEFT_SECONDS)
        return run.ended_at is not None and run.ended_at < timezone.now() - grace
    return not found.runs and found.attempt != run.attempt_id[:SHORT]


def _package(run: Run, kind: PackageKind) -> Package:
    return run.server_package if kind == PackageKind.SERVER else run.client_package
