"""The way from a new account to the first run, as the home page shows it."""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from configurations.models import Configuration
from devices.models import Device
from runs.models import Project, Run
from runs.states import RunState


@dataclass(frozen=True)
class Step:
    """One step: what to do, where, and whether it is done."""

    title: str
    text: str
    action: str
    url: str
    done: bool


def first_steps(user: Any) -> list[Step]:
    """The five steps for ``user``, in five queries. The last two lead into the newest project, once there is one."""
    project = Project.objects.visible_to(user).first()
    return [
        Step(
            title="Bind a device",
            text="One command on the machine that will train connects it to your account.",
            action="Bind a device",
            url=reverse("device_bind"),
            done=Device.objects.bound().visible_to(user).exists(),
        ),
        Step(
            title="Build and upload a configuration",
            text="Run ./build.sh, then upload the two packages from dist-package/.",
            action="New configuration",
            url=reverse("configuration_create"),
            done=Configuration.objects.visible_to(user).exists(),
        ),
        Step(
            title="Create a project",
            text="A project holds the runs of a team. Invite your colleagues into it.",
            action="New project",
            url=reverse("project_create"),
            done=project is not None,
        ),
        Step(
            title="Start a run",
            text="Choose the configuration and the devices, and watch the model learn.",
            action="New run",
            url=reverse("run_create", args=[project.pk]) if project else reverse("project_list"),
            done=Run.objects.visible_to(user).exclude(state=RunState.CREATED).exists(),
        ),
        Step(
            title="See it finish",
            text="The run's page shows every curve live. When it has finished, its models wait there.",
            action="Open the runs",
            url=project.get_absolute_url() if project else reverse("project_list"),
            done=Run.objects.visible_to(user).filter(state=RunState.FINISHED).exists(),
        ),
    ]
