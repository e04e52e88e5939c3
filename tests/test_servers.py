"""The servers that tests run against, and the settings that point at them."""

from pathlib import Path

import pytest
import redis
from django.conf import settings as platform
from django.core.cache import cache
from pytest_django import Settings

from devices.broker import BrokerUnavailable, commands_publish
from mlops_site.celery import app as celery_app
from tests.servers import MosquittoServer, RedisServer, free_port


def test_the_settings_point_at_the_sessions_redis(redis_url: str) -> None:
    cache.set("who", "session")
    celery_app.send_task("runs.pipeline.tasks.nothing", queue="test-servers")
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("test-servers") == 1
        client.delete("test-servers")
    assert redis_url == platform.REDIS_URL
    assert cache.get("who") == "session"


def test_a_broker_comes_back_on_the_same_port_with_its_credentials(tmp_path: Path) -> None:
    with MosquittoServer(tmp_path) as broker:
        port = broker.port
        broker.stop()
        broker.start()
        assert broker.port == port


def test_a_killed_server_can_be_started_again(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        server.kill()
        with pytest.raises(redis.ConnectionError), redis.Redis.from_url(server.url) as client:
            client.ping()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.ping() is True


def test_without_a_broker_the_error_says_what_to_do(settings: Settings) -> None:
    settings.MQTT_PORT = free_port()
    with pytest.raises(BrokerUnavailable, match=r"cannot be reached.*start it, then try again"):
        commands_publish([(1, {})])
