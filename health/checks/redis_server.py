"""Redis: does it answer, may it be written, do messages pass, and does it keep what is queued?"""

from __future__ import annotations

import secrets
import time
from urllib.parse import urlsplit

import redis
from django.conf import settings

from health.checks.interface import Check, Level, Outcome, milliseconds

SLOW_SECONDS = 0.1
MESSAGE_SECONDS = 2.0


def ask() -> Outcome:
    """Ping, write and read a value, and publish a message and receive it."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2.0, socket_connect_timeout=2.0)
    try:
        with client:
            client.ping()  # connects
            began = time.perf_counter()
            client.ping()
            latency = time.perf_counter() - began
            _write_and_read(client)
            heard = _publish_and_hear(client)
            information = client.info()
    except redis.AuthenticationError as error:
        return _failure("Redis refuses the platform's password.", "Put the right password into it.", error)
    except (redis.RedisError, OSError) as error:
        return _failure("Redis cannot be used.", "Start Redis, and see that it names the right host and port.", error)
    facts = (
        _where(),
        ("version", str(information["redis_version"])),
        ("answer", milliseconds(latency)),
        ("memory", str(information["used_memory_human"])),
        ("eviction", str(information.get("maxmemory_policy", "noeviction"))),
    )
    if not heard:
        return Outcome(
            Level.FAILED,
            "Redis answers, but a message that was published did not arrive.",
            fix="Look at Redis' log: live pages get their messages by publish and subscribe.",
            facts=facts,
        )
    if information.get("maxmemory") and information.get("maxmemory_policy", "noeviction") != "noeviction":
        return Outcome(
            Level.WARNING,
            "Redis may throw away what is queued when its memory is full.",
            fix="Set `maxmemory-policy noeviction` in Redis' configuration.",
            facts=facts,
        )
    if latency > SLOW_SECONDS:
        return Outcome(
            Level.WARNING,
            f"Redis answers in {milliseconds(latency)}, which is slow.",
            fix="Look at the load of Redis' machine and the way to it; live pages fall behind with it.",
            facts=facts,
        )
    return Outcome(Level.OK, f"Redis answers in {milliseconds(latency)} and passes messages on.", facts=facts)


def _write_and_read(client: redis.Redis) -> None:
    key, value = f"health:probe:{secrets.token_hex(8)}", secrets.token_bytes(8)
    client.set(key, value, ex=10)
    if client.get(key) != value:
        raise redis.RedisError("what was written is not what was read")
    client.delete(key)


def _publish_and_hear(client: redis.Redis) -> bool:
    channel = f"health:probe:{secrets.token_hex(8)}"
    with client.pubsub() as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(channel)
        deadline = time.monotonic() + MESSAGE_SECONDS
        while time.monotonic() < deadline:
            message = listener.get_message(timeout=0.5)
            if message is None:
                continue
            if message["type"] == "subscribe":
                client.publish(channel, b"heard")
            elif message["type"] == "message":
                return True
    return False


def _failure(text: str, fix: str, error: Exception) -> Outcome:
    return Outcome(
        Level.FAILED, text, fix=f"{fix} It is named by ROUNDTABLE_REDIS_URL.", facts=(_where(), ("error", str(error)))
    )


def _where() -> tuple[str, str]:
    """The address without user and password."""
    parts = urlsplit(settings.REDIS_URL)
    place = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else "local socket"
    return ("redis", f"{parts.scheme}://{place}{parts.path}")


CHECK = Check(
    name="redis",
    title="Redis",
    question="Does it answer, keep what is written, and pass messages on?",
    ask=ask,
)
