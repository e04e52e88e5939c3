"""The images that the engine keeps: a budget, from which the least recently used fall out.

What falls out is in the registry still, and its layers are built or pulled again when a run needs them. The registry
itself is left alone: how long it keeps what is a matter of whoever runs it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from docker.errors import APIError

from runs.models import Stage
from runs.pipeline.backends.engine import EngineClient
from runs.states import RunState

logger = logging.getLogger(__name__)

GIB = 1024**3
UNFINISHED_AGE = "24h"
TRIM_SECONDS = 600


@dataclass(frozen=True)
class KeptImage:
    """An image of this installation on the engine.

    Attributes:
        names: its ``repository:tag`` names.
        own_bytes: what would be free without it: layers that it shares with other images do not count.
        used_at: seconds since the epoch; when a run last started with it, or else when it was built.
        needed: whether a run that is under way is made from it.
    """

    names: tuple[str, ...]
    own_bytes: int
    used_at: float
    needed: bool


def images_trim_due() -> bool:
    """Return whether this machine has not looked at its images for a while: the engine takes time to measure them."""
    mark = Path(settings.VAR_DIR) / "images_trimmed"
    with contextlib.suppress(FileNotFoundError):
        if time.time() - mark.stat().st_mtime < TRIM_SECONDS:
            return False
    mark.touch()
    return True


def images_trim(client: EngineClient) -> list[str]:
    """Remove the images that the budget has no room for, and what unfinished builds of a day ago left.

    Returns:
        The names of the images that were removed.
    """
    budget = settings.IMAGES_KEEP_GIB * GIB
    removed: list[str] = []
    for image in sorted(images_kept(client), key=lambda image: image.used_at, reverse=True):
        budget -= image.own_bytes
        if budget >= 0 or image.needed:
            continue
        for name in image.names:
            with contextlib.suppress(APIError):  # a container still uses it
                client.remove_image(name)
                removed.append(name)
    client.prune_images({"dangling": True, "label": "roundtable.image=1", "until": UNFINISHED_AGE})
    if removed:
        logger.info("images were removed from the engine: %s", ", ".join(removed))
    return removed


def images_kept(client: EngineClient) -> list[KeptImage]:
    """Return the images that were built for this installation's registry and are on the engine."""
    prefix = f"{settings.REGISTRY}/roundtable-"
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for image in client.df().get("Images") or []:
        names = tuple(name for name in image.get("RepoTags") or [] if name.startswith(prefix))
        if names and (image.get("Labels") or {}).get("roundtable.image") == "1":
            found[names] = image
    used = _last_uses([_tag(name) for names in found for name in names])
    kept = []
    for names, image in found.items():
        uses = [used[_tag(name)] for name in names if _tag(name) in used]
        kept.append(
            KeptImage(
                names,
                max(0, int(image["Size"]) - max(0, int(image.get("SharedSize") or 0))),
                max([float(image["Created"]), *(when.timestamp() for when, _ in uses)]),
                any(needed for _, needed in uses),
            )
        )
    return kept


def _tag(name: str) -> str:
    return name.rpartition(":")[2]


def _last_uses(tags: list[str]) -> dict[str, tuple[datetime, bool]]:
    """Return for each tag when a run with it was last started, and whether one is under way."""
    uses: dict[str, tuple[datetime, bool]] = {}
    stages = Stage.objects.filter(result__tag__in=tags).values_list("result__tag", "run__started_at", "run__state")
    for tag, started_at, state in stages:
        if started_at is not None:
            last, needed = uses.get(tag, (started_at, False))
            uses[tag] = (max(last, started_at), needed or state in RunState.active())
    return uses
