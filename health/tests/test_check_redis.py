"""The check of Redis, with a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.test import override_settings

from health.checks import redis_server
from health.checks.interface import Level
from tests.servers import RedisServer


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server, override_settings(REDIS_URL=server.url):
        yield server


def test_it_answers_and_passes_messages_on(own_redis: RedisServer) -> None:
    outcome = redis_server.ask()
    assert outcome.level is Level.OK
    assert outcome.text.endswith(" and passes messages on.")
    facts = dict(outcome.facts)
    assert facts["redis"] == own_redis.url
    assert facts["eviction"] == "noeviction"
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.dbsize() == 0


def test_it_is_away(own_redis: RedisServer) -> None:
    own_redis.stop()
    outcome = redis_server.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "Redis cannot be used.")
    assert "ROUNDTABLE_REDIS_URL" in outcome.fix


def test_a_wrong_password_is_named_and_not_shown(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")
    with override_settings(REDIS_URL=own_redis.url.replace("redis://", "redis://:wrong-secret@")):
        outcome = redis_server.ask()
    assert (outcome.level, outcome.text) == (Level.FAILED, "Redis refuses the platform's password.")
    assert "wrong-secret" not in repr(outcome)


def test_one_that_takes_no_writes_fails(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", "1")
    outcome = redis_server.ask()
    assert outcome.level is Level.FAILED
    assert "maxmemory" in dict(outcome.facts)["error"]


def test_one_that_throws_away_what_is_queued_is_warned_of(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", "512mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    outcome = redis_server.ask()
    assert outcome.level is Level.WARNING
    assert outcome.fix == "Set `maxmemory-policy noeviction` in Redis' configuration."


def test_a_slow_one_is_warned_of(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "SLOW_SECONDS", 0.0)
    assert redis_server.ask().level is Level.WARNING
