"""Recent frames in Redis, and the channel group through which new ones reach open pages.

Redis holds nothing that the database does not: with Redis away nothing is lost but the speed at which pages follow. A
page that misses frames asks for those that are kept here, and where they are not, for a new snapshot.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import redis
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings

logger = logging.getLogger(__name__)

KEPT_SECONDS = 120  # how long a page may be away and still be told exactly what it missed
KEPT_FRAMES = 2_000  # how many frames one answer to such a page may have
_PAUSE_SECONDS = 2.0  # after Redis failed, frames are not sent to it for so long: ingest must not wait for it each time

_away_until: dict[str, float] = {}  # by URL, monotonic seconds


class Frame(NamedTuple):
    """One frame: ``data`` is its items as JSON, separated by commas, without the enclosing brackets."""

    run_id: int
    number: int
    data: str


def run_group(run_id: int) -> str:
    """Return the name of the channel group that the open pages of a run listen to."""
    return f"run.{run_id}"


def redis_client() -> redis.Redis:
    """Return this process's client of the platform's Redis; answers are bytes, and it gives up after two seconds."""
    return _client(settings.REDIS_URL)


def frames_send(frames: Sequence[Frame]) -> bool:
    """Keep the frames and send them to the pages of their runs, in one round trip.

    Returns:
        Whether Redis took them. When it is away this is logged, and not tried again for two seconds.
    """
    layer = get_channel_layer()
    if (
        not frames
        or not isinstance(layer, RedisPubSubChannelLayer)
        or time.monotonic() < _away_until.get(settings.REDIS_URL, 0.0)
    ):
        return False
    pipeline = redis_client().pipeline(transaction=False)
    for run_id, number, data in frames:
        pipeline.set(_key(run_id, number), data, ex=KEPT_SECONDS)
        message = layer.serialize({"type": "frame", "number": number, "data": data})
        pipeline.publish(_group_channel(run_group(run_id)), message)
    try:
        pipeline.execute()
    except (redis.RedisError, OSError) as error:
        _away_until[settings.REDIS_URL] = time.monotonic() + _PAUSE_SECONDS
        logger.warning("Redis is away (%s): open pages catch up when it is back", error)
        return False
    return True


def frames_kept(run_id: int, numbers: Iterable[int]) -> dict[int, str]:
    """Return those of the frames that are still kept, by number; none when Redis is away."""
    wanted = list(numbers)
    if not wanted:
        return {}
    try:
        found = cast("list[bytes | None]", redis_client().mget([_key(run_id, number) for number in wanted]))
    except (redis.RedisError, OSError) as error:
        logger.warning("Redis is away (%s): a page gets a snapshot in place of what it missed", error)
        return {}
    return {number: data.decode() for number, data in zip(wanted, found, strict=True) if data is not None}


def _key(run_id: int, number: int) -> str:
    return f"run:{run_id}:frame:{number}"


def _group_channel(group: str) -> str:
    """The Redis channel of a group. Publishing to it directly spares an event loop and a connection for each frame."""
    configuration: dict[str, Any] = settings.CHANNEL_LAYERS["default"]
    prefix = configuration["CONFIG"]["prefix"]
    return f"{prefix}__group__{group}"


@functools.lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=1.0)
