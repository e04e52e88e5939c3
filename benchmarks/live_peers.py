"""The processes around a measurement of the live page: devices that publish, viewers that read, and the bare relay.

The relay is what the platform's path is compared with: it subscribes to the broker and passes every message on to every
websocket at once. It stores nothing, checks nothing, and knows no cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence

import orjson
import paho.mqtt.client as mqtt
import websockets
from paho.mqtt.enums import CallbackAPIVersion
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.typing import Origin

METRICS = ("accuracy", "loss", *(f"figure-{number}" for number in range(8)))
PROBE = METRICS[0]  # its values are the moments at which they were published
INTERVAL_SECONDS = 0.1  # between two messages of a device


def client_make(port: int, user: str, password: str) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.max_inflight_messages_set(500)
    client.connect("127.0.0.1", port)
    return client


def publish(
    port: int, user: str, password: str, topics: Sequence[tuple[str, str]], seconds: float, base: float
) -> None:
    """Let each device publish its ten metrics every 100 ms, one device after the other, with QoS 1.

    Args:
        topics: (topic, name of the instance) of each device.
        seconds: how long.
        base: what is taken off the moments that the probe's values are, in seconds since the epoch.
    """
    client = client_make(port, user, password)
    client.loop_start()
    began = time.monotonic()
    for step in range(int(seconds / INTERVAL_SECONDS)):
        for place, (topic, instance) in enumerate(topics):
            due = began + (step + place / len(topics)) * INTERVAL_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.time()
            points = [
                {"name": name, "step": step, "time": now, "value": now - base if name == PROBE else step % 7 + place}
                for name in METRICS
            ]
            client.publish(topic, orjson.dumps({"instance": instance, "seq": step + 1, "metrics": points}), qos=1)
    time.sleep(1.0)
    client.disconnect()
    client.loop_stop()


def view(url: str, cookie: str, origin: str, count: int, ready: threading.Event, stop: threading.Event) -> None:
    """Hold ``count`` websockets open and read everything that they are sent."""
    headers = {"Cookie": cookie}

    async def one() -> None:
        async with websockets.connect(
            url, additional_headers=headers, max_size=None, compression=None, origin=Origin(origin)
        ) as socket:
            await socket.send('{"cursor":null}')
            async for _ in socket:
                pass

    async def all_of_them() -> None:
        viewers = [asyncio.create_task(one()) for _ in range(count)]
        await asyncio.sleep(1.0 + count * 0.02)
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.1)
            for viewer in viewers:
                if viewer.done() and not stop.is_set():
                    raise SystemExit(f"a viewer left: {viewer.exception()}")
        for viewer in viewers:
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)

    asyncio.run(all_of_them())


def relay(
    broker: tuple[int, str, str], run_id: int, snapshot: str, port: int, ready: threading.Event, stop: threading.Event
) -> None:
    """Pass every message of a run's devices on to every websocket, in the form in which the page takes points.

    Args:
        broker: port, user and password.
        snapshot: what a websocket is sent first.
        port: on which websockets are accepted.
    """

    async def run() -> None:
        loop = asyncio.get_running_loop()
        open_sockets: set[ServerConnection] = set()
        series: dict[tuple[int, str], int] = {}
        cursor = orjson.loads(snapshot)["cursor"]
        points = 0

        def pass_on(topic: str, payload: bytes) -> None:
            nonlocal cursor, points
            edge_id = int(topic.split("/")[2])
            new, rows = [], []
            for point in orjson.loads(payload)["metrics"]:
                key = (edge_id, point["name"])
                if key not in series:
                    series[key] = len(series) + 1
                    new.append({"id": series[key], "edge_id": edge_id, "name": point["name"], "kind": "metric"})
                points += 1
                rows.append((series[key], points, point["step"], None, point["time"], point["value"], 0))
            cursor += 1
            item = {"t": "points", "series": new, "points": rows}
            broadcast(open_sockets, orjson.dumps({"type": "frames", "cursor": cursor, "items": [item]}).decode())

        async def accept(socket: ServerConnection) -> None:
            await socket.recv()
            await socket.send(snapshot)
            open_sockets.add(socket)
            with contextlib.suppress(websockets.ConnectionClosed):
                async for _ in socket:
                    pass
            open_sockets.discard(socket)

        client = client_make(*broker)
        client.on_message = lambda _client, _data, message: loop.call_soon_threadsafe(
            pass_on, message.topic, message.payload
        )
        client.subscribe(f"runs/{run_id}/+/metrics", qos=1)
        client.loop_start()
        async with serve(accept, "127.0.0.1", port, compression=None):
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.1)
        client.disconnect()
        client.loop_stop()

    asyncio.run(run())
