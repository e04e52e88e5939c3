"""What the command palette finds: pages and actions, and every thing that the user may see, by words of its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from configurations.models import Configuration
from devices.models import Device
from groups.models import Group
from runs.access import CHANGING_ROLES
from runs.models import Membership, Project, Run

EACH = 6  # most results of one kind
QUERY_MAX = 100  # characters

# Title, icon, URL name, and words by which it is found besides the title's.
PAGES = (
    ("Home", "home", "home", "start first steps"),
    ("Devices", "devices", "device_list", "edge machines"),
    ("Groups", "users-group", "group_list", ""),
    ("Collaborators", "users", "collaborators", "people members"),
    ("Projects", "folders", "project_list", ""),
    ("Configurations", "adjustments-horizontal", "configuration_list", "packages applications"),
    ("Health", "activity-heartbeat", "health", "status installation"),
    ("Account", "user-circle", "account", "profile settings"),
)
ACTIONS = (
    ("Bind a device", "plug-connected", "device_bind", "connect add new enrol"),
    ("New project", "plus", "project_create", "create add"),
    ("New configuration", "plus", "configuration_create", "create add upload packages"),
    ("New group", "plus", "group_create", "create add invite"),
    ("Change password", "key", "password_change", "account"),
)
RUN_WORDS = {"new", "run", "start", "create"}


@dataclass(frozen=True)
class Found:
    """One line of the palette."""

    kind: str
    title: str
    detail: str
    url: str
    icon: str


@require_safe
@never_cache
def palette(request: HttpRequest) -> JsonResponse:
    """``GET /find/?q=words``: ``{"results": [{kind, title, detail, url, icon}]}``, grouped by kind.

    Every word has to occur in a name; a number also finds the run or device of that id. Without words: the newest.
    """
    query = request.GET.get("q", "").replace("\0", "").strip()[:QUERY_MAX]
    return JsonResponse({"results": [asdict(found) for found in palette_find(request.user, query)]})


def palette_find(user: Any, query: str) -> Iterator[Found]:
    """Yield what ``user`` may see and do that matches ``query``, in at most six queries."""
    words = query.casefold().split()
    projects = Project.objects.visible_to(user)
    standing = [*_standing("Go to", PAGES, words), *_standing("Actions", ACTIONS, words)]
    if words:
        yield from standing
    named = [word for word in words if word not in RUN_WORDS]
    if len(named) < len(words):
        startable = projects.filter(pk__in=_where_runs_are_made(user))
        for project in _matching(startable, named, "name"):
            yield Found("Actions", f"New run in {project.name}", "", reverse("run_create", args=[project.pk]), "plus")
    runs = Run.objects.visible_to(user).select_related("project").order_by("-created_at")
    for run in _matching(runs, words, "name", "project__name"):
        yield Found("Runs", run.name, f"{run.project.name}, {run.get_state_display().lower()}", _url(run), "rocket")
    for project in _matching(projects, words, "name"):
        yield Found("Projects", project.name, "", _url(project), "folder")
    devices = Device.objects.bound().visible_to(user).select_related("owner").order_by("name", "pk")
    for device in _matching(devices, words, "name", "owner__username"):
        state = "online" if device.online else "offline"
        yield Found("Devices", device.name, f"{device.owner}, {state}", _url(device), "device-desktop")
    if not words:
        yield from standing
        return
    configurations = Configuration.objects.visible_to(user).order_by("name", "pk")
    for configuration in _matching(configurations, words, "name"):
        url = reverse("configuration_detail", args=[configuration.pk])
        yield Found("Configurations", configuration.name, "", url, "adjustments-horizontal")
    for group in _matching(Group.objects.visible_to(user), words, "name"):
        yield Found("Groups", group.name, "", _url(group), "users-group")


def _standing(kind: str, entries: Iterable[tuple[str, str, str, str]], words: list[str]) -> Iterator[Found]:
    for title, icon, name, more in entries:
        text = f"{title} {more}".casefold()
        if all(word in text for word in words):
            yield Found(kind, title, "", reverse(name), icon)


def _where_runs_are_made(user: Any) -> Any:
    return Membership.objects.filter(user=user, role__in=CHANGING_ROLES).values("project")


def _matching(rows: QuerySet[Any], words: list[str], *fields: str) -> Any:
    for word in words:
        matches = Q()
        for field in fields:
            matches |= Q(**{f"{field}__icontains": word})
        if word.removeprefix("#").isdecimal() and len(word) < 18:
            matches |= Q(pk=int(word.removeprefix("#")))
        rows = rows.filter(matches)
    return rows[:EACH]


def _url(row: Model) -> str:
    return str(row.get_absolute_url())  # type: ignore[attr-defined]
